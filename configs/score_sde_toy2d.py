"""A score SDE, variance-preserving, on eight Gaussians on a ring.

    python launch.py --config=configs/score_sde_toy2d.py --workdir=runs/sde_toy2d

Hardware: one CPU core, 2.5 minutes. Measured: all 8 modes, 0.342 nats a held-out point,
where the density itself has 0.314. For the other SDEs add --config.method.sde=subvp
or ve.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "score_sde"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "gaussians8"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.backbone = "mlp"
    config.model.width = 128
    config.model.depth = 3
    config.model.dropout = 0.0
    config.model.num_classes = 0  # 8: conditional on the Gaussian
    config.model.dtype = "float32"

    config.method = ConfigDict()
    config.method.sde = "vp"  # vp, subvp or ve
    config.method.weighting = "simple"  # simple or likelihood
    config.method.start = 1e-5  # t of the least noise in training
    config.method.beta_min = 0.1  # these two for vp and subvp
    config.method.beta_max = 20.0
    config.method.sigma_min = 0.01  # these two for ve
    config.method.sigma_max = 50.0
    config.method.pixel_features = False
    config.method.dequantize = False
    config.method.flip = False
    config.method.label_dropout = 0.1
    config.method.classifier_width = 0  # above 0: of a classifier of noisy examples
    config.method.guide_step = 0  # above 0: keeps the average then, to autoguide by
    config.method.point_scale = 1.5  # about the standard deviation of the points

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = 1.0
    config.optim.ema_decay = 0.999
    config.optim.accumulation = 1

    config.training = ConfigDict()
    config.training.num_steps = 20_000
    config.training.batch_size = 256
    config.training.log_every = 1_000
    config.training.save_every = 5_000
    config.training.sample_every = 5_000
    config.training.eval_every = 20_000
    config.training.steps_per_call = 500
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.name = "predictor_corrector"  # any of genjax/diffusion/solvers.py
    config.sampler.num_steps = 500  # 2 num_steps - 1 evaluations of the network
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
    config.eval.batch_size = 1000
    config.eval.num_samples = 10_000
    config.eval.likelihood = "ode"  # none, ode or bound
    config.eval.likelihood_trace = "exact"  # these two for "ode"
    config.eval.likelihood_tolerance = 1e-4
    config.eval.likelihood_draws = 64  # these two for "bound"
    config.eval.likelihood_logsnr = 11.0  # of the least noise
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":  # and yet it learns
        config.model.width = 64
        config.model.depth = 2
        config.optim.learning_rate = 2e-3
        config.optim.ema_decay = 0.995
        config.training.num_steps = 4000
        config.training.batch_size = 128
        config.training.save_every = 2000
        config.training.sample_every = 2000
        config.training.eval_every = 4000
        config.sampler.num_steps = 100
        config.eval.batch_size = 100
        config.eval.num_samples = 1000
        config.eval.limit = 1000
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
