"""Flow matching with a transformer on scikit-learn's 8x8 digits, class-conditional.

    python launch.py --config=configs/flow_matching_digits_dit.py --workdir=runs/fm_dit

1.3 M parameters. Hardware: one CPU core, 5 minutes. Measured: `frechet_pixels` 0.127
and at most 94.0 nats an image given its label; the U-Net of flow_matching_digits has
0.079 and 89.7 in as many steps.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "flow_matching"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.backbone = "dit"
    config.model.patch = 2  # pixels a side: 16 tokens
    config.model.width = 128
    config.model.depth = 4
    config.model.num_heads = 4
    config.model.position = "sincos"  # or "rotary"
    config.model.qk_norm = False
    config.model.dropout = 0.1
    config.model.num_classes = 10  # 0: no labels
    config.model.dtype = "float32"

    config.method = ConfigDict()
    config.method.coupling = "independent"
    config.method.time_distribution = "logit_normal"
    config.method.time_mean = 0.0  # these two for "logit_normal" only
    config.method.time_std = 1.0
    config.method.time_shift = 1.0  # above 1: more of the training near the noise
    config.method.flip = False  # a mirrored digit is no digit
    config.method.label_dropout = 0.1
    config.method.guide_step = 0  # above 0: keeps the average then, to autoguide by
    config.method.point_scale = 1.0
    config.method.weighting = "simple"  # or "min_snr", "sigmoid"
    config.method.min_snr_gamma = 5.0  # "min_snr"
    config.method.sigmoid_bias = 2.0  # "sigmoid"

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
    config.sampler.name = "heun"  # any of genjax/diffusion/solvers.py
    config.sampler.num_steps = 20
    config.sampler.time_shift = 1.0
    config.sampler.guidance_scale = 1.5
    config.sampler.guidance_min_t = 0.0  # guidance at these t only; 0 is data
    config.sampler.guidance_max_t = 1.0
    config.sampler.guidance_rescale = 0.0  # to 1: the contrast of no guidance
    config.sampler.autoguidance_scale = 1.0  # 1: none

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 1000
    config.eval.likelihood = "ode"  # none, ode or bound
    config.eval.likelihood_trace = "hutchinson"  # these two for "ode"
    config.eval.likelihood_tolerance = 1e-4
    config.eval.likelihood_draws = 64  # these two for "bound"
    config.eval.likelihood_logsnr = 7.8  # of the least noise
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.patch = 4
        config.model.width = 16
        config.model.depth = 1
        config.model.num_heads = 2
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
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
