"""EDM on CIFAR-10 with the numbers of Karras et al. 2022 (arXiv:2206.00364, table 7).

    python launch.py --config=configs/edm_cifar.py --workdir=runs/edm_cifar

Hardware: 8 data-centre GPUs, two days. Published: FID 1.97 without labels, 1.79 with,
18 steps of Heun (35 evaluations). The network is their DDPM++: 55,733,891 parameters.
Not theirs: the average of the weights is warmed up as genjax.train.optim does it,
the augmentation reads between pixels without their wavelet filter, and the network sees
its time as this repository's networks do. NCSN++ is model.time_embedding="fourier",
resample_taps=(1, 3, 3, 1) and progressive_input=True. Own figures: not yet measured.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "edm"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "cifar10"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.backbone = "unet"
    config.model.channels = 128
    config.model.channel_multipliers = (2, 2, 2)
    config.model.num_res_blocks = 4
    config.model.attention_resolutions = (16,)
    config.model.resample = "block"  # from here: what makes DDPM's network DDPM++
    config.model.resample_taps = (1, 1)
    config.model.up_attention = "last"
    config.model.scale_skips = True
    config.model.time_embedding = "positional"
    config.model.progressive_input = False
    config.model.dropout = 0.13
    config.model.num_classes = 0  # 10: class-conditional
    config.model.dtype = "float32"

    config.method = ConfigDict()
    config.method.sigma_data = 0.5  # the standard deviation that the network sees
    config.method.p_mean = -1.2  # of the logarithm of sigma in training
    config.method.p_std = 1.2
    config.method.flip = True  # half the images mirrored, and the network told so
    config.method.augment_probability = 0.12  # of each kind of movement; 0: none
    config.method.weighting = "edm"  # or "min_snr", "sigmoid", "learned"
    config.method.min_snr_gamma = 5.0  # "min_snr"
    config.method.sigmoid_bias = 2.0  # "sigmoid"
    config.method.label_dropout = 0.1
    config.method.point_scale = 1.0
    config.method.guide_step = 0  # above 0: keeps the average then, to autoguide by

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 19_531  # 10 million images
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.99929  # half-life: half a million images
    config.optim.accumulation = 1

    config.training = ConfigDict()
    config.training.num_steps = 390_625  # 200 million images
    config.training.batch_size = 512
    config.training.log_every = 500
    config.training.save_every = 10_000
    config.training.sample_every = 10_000
    config.training.eval_every = 50_000
    config.training.steps_per_call = 10
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.name = "heun"  # any of genjax/diffusion/solvers.py
    config.sampler.num_steps = 18  # heun: 2 num_steps - 1 evaluations
    config.sampler.sigma_min = 0.002
    config.sampler.sigma_max = 80.0
    config.sampler.rho = 7.0
    config.sampler.churn = 0.0  # above 0: noise on the way (the paper's S_churn)
    config.sampler.churn_min = 0.0  # S_tmin
    config.sampler.churn_max = 1000.0  # S_tmax
    config.sampler.churn_noise = 1.0  # S_noise
    config.sampler.guidance_scale = 1.0
    config.sampler.guidance_min_t = 0.0  # guidance at these t only; 0 is data
    config.sampler.guidance_max_t = 1.0
    config.sampler.guidance_rescale = 0.0  # to 1: the contrast of no guidance
    config.sampler.autoguidance_scale = 1.0  # 1: none

    config.eval = ConfigDict()
    config.eval.batch_size = 500
    config.eval.num_samples = 50_000
    config.eval.likelihood = "ode"  # none, ode or bound
    config.eval.likelihood_trace = "hutchinson"  # these two for "ode"
    config.eval.likelihood_tolerance = 1e-4
    config.eval.likelihood_draws = 64  # these two for "bound"
    config.eval.likelihood_logsnr = 13.2  # of the least noise
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.channels = 8
        config.model.channel_multipliers = (1, 1)
        config.model.num_res_blocks = 1
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
