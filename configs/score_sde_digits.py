"""A sub-VP score SDE on scikit-learn's 8x8 digits, trained for its likelihood.

    python launch.py --config=configs/score_sde_digits.py --workdir=runs/sde_digits

Hardware: one CPU core, 5 minutes. Measured: a bound of 81.2 nats an image; a model of
independent pixels gets 106.3.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "score_sde"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.backbone = "unet"
    config.model.channels = 32
    config.model.channel_multipliers = (1, 2)
    config.model.num_res_blocks = 1
    config.model.attention_resolutions = (4,)
    config.model.dropout = 0.1
    config.model.num_classes = 0  # 10: class-conditional
    config.model.dtype = "float32"

    config.method = ConfigDict()
    config.method.sde = "subvp"  # vp, subvp or ve
    config.method.weighting = "likelihood"  # simple or likelihood
    config.method.start = 0.04  # t of the least noise in training: log-SNR 7.8
    config.method.beta_min = 0.1  # these two for vp and subvp
    config.method.beta_max = 20.0
    config.method.sigma_min = 0.01  # these two for ve
    config.method.sigma_max = 50.0
    config.method.pixel_features = True  # eps if black, white or a level
    config.method.dequantize = False
    config.method.flip = False  # a mirrored digit is no digit
    config.method.label_dropout = 0.1
    config.method.classifier_width = 0  # above 0: of a classifier of noisy examples
    config.method.guide_step = 0  # above 0: keeps the average then, to autoguide by
    config.method.point_scale = 1.0

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = 1.0
    config.optim.ema_decay = 0.995
    config.optim.accumulation = 1

    config.training = ConfigDict()
    config.training.num_steps = 2500
    config.training.batch_size = 64
    config.training.log_every = 100
    config.training.save_every = 500
    config.training.sample_every = 500
    config.training.eval_every = 2500
    config.training.steps_per_call = 50
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.name = "predictor_corrector"  # any of genjax/diffusion/solvers.py
    config.sampler.num_steps = 100  # 2 num_steps - 1 evaluations of the network
    config.sampler.spacing = "uniform"  # of the times: genjax/diffusion/times.py
    config.sampler.snr = 0.16  # these two for predictor_corrector
    config.sampler.corrector_steps = 1
    config.sampler.guidance_scale = 1.0
    config.sampler.guidance_min_t = 0.0  # guidance at these t only; 0 is data
    config.sampler.guidance_max_t = 1.0
    config.sampler.guidance_rescale = 0.0  # to 1: the contrast of no guidance
    config.sampler.autoguidance_scale = 1.0  # 1: none
    config.sampler.classifier_scale = 0.0  # of classifier guidance; 0: none

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 1000
    config.eval.likelihood = "bound"  # none, ode (train with dequantize then) or bound
    config.eval.likelihood_trace = "hutchinson"  # these two for "ode"
    config.eval.likelihood_tolerance = 1e-4
    config.eval.likelihood_draws = 64  # these two for "bound"
    config.eval.likelihood_logsnr = 7.8  # of the least noise
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.channels = 8
        config.model.channel_multipliers = (1,)
        config.model.attention_resolutions = (8,)
        config.model.dropout = 0.0
        config.training.num_steps = 4
        config.training.batch_size = 8
        config.training.log_every = 2
        config.training.save_every = 2
        config.training.sample_every = 4
        config.training.eval_every = 4
        config.training.steps_per_call = 2
        config.sampler.num_steps = 4
        config.eval.batch_size = 16
        config.eval.num_samples = 16
        config.eval.likelihood_draws = 4
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
