"""DDPM on eight Gaussians on a ring: two dimensions, one minute.

    python launch.py --config=configs/ddpm_toy2d.py --workdir=runs/ddpm_toy2d

Hardware: 2 CPU cores, about a minute. The bound on the log-likelihood lies below the
exact mean, -0.31 nats.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "ddpm"
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
    config.method.num_timesteps = 100
    config.method.schedule = "linear"  # or "cosine", which has no beta_start, beta_end
    config.method.beta_start = 1e-3
    config.method.beta_end = 0.2
    config.method.prediction = "eps"
    config.method.variance = "fixed"  # or "learned"
    config.method.vlb_weight = 1e-3  # of the bound in the loss, for "learned"
    config.method.weighting = "simple"  # or "min_snr", "sigmoid"
    config.method.min_snr_gamma = 5.0  # "min_snr"
    config.method.sigmoid_bias = 2.0  # "sigmoid"
    config.method.flip = False
    config.method.label_dropout = 0.1
    config.method.point_scale = 1.5  # about the standard deviation of the points
    config.method.guide_step = 0  # above 0: keeps the average then, to autoguide by

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
    config.sampler.name = "ancestral"
    config.sampler.num_steps = 100
    config.sampler.eta = 0.0
    config.sampler.churn = 0.0  # heun
    config.sampler.snr = 0.16  # predictor_corrector
    config.sampler.corrector_steps = 1
    config.sampler.tolerance = 1e-4  # adaptive
    config.sampler.spacing = "uniform"
    config.sampler.variance = "fixed_small"
    config.sampler.guidance_scale = 1.0
    config.sampler.guidance_min_t = 0.0  # guidance at these t only; 0 is data
    config.sampler.guidance_max_t = 1.0
    config.sampler.guidance_rescale = 0.0  # to 1: the contrast of no guidance
    config.sampler.autoguidance_scale = 1.0  # 1: none
    config.sampler.clip = False

    config.eval = ConfigDict()
    config.eval.batch_size = 1000
    config.eval.num_samples = 10_000
    config.eval.likelihood = "vlb"  # vlb or ode
    config.eval.likelihood_trace = "exact"  # these two for "ode"
    config.eval.likelihood_tolerance = 1e-4
    config.eval.likelihood_timesteps = placeholder(int)  # None: all
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":  # and yet it learns
        config.model.width = 64
        config.model.depth = 2
        config.method.num_timesteps = 50
        config.method.beta_start = 2e-3
        config.method.beta_end = 0.3
        config.optim.learning_rate = 2e-3
        config.optim.ema_decay = 0.995
        config.training.num_steps = 4000
        config.training.batch_size = 128
        config.training.save_every = 2000
        config.training.sample_every = 2000
        config.training.eval_every = 4000
        config.sampler.num_steps = 50
        config.eval.batch_size = 100
        config.eval.num_samples = 1000
        config.eval.limit = 1000
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
