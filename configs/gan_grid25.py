"""A GAN on the grid of 25 Gaussians: which modes does it find, and how evenly?

    python launch.py --config=configs/gan_grid25.py --workdir=runs/gan_grid25

The protocol is PacGAN's (Lin et al. 2018, arXiv:1712.04086), z in two dimensions and
2,500 samples to count, but small: four layers of 64 units in the generator and 20,000
steps, where it has 400 units and 400,000 steps. The loss is R3GAN's. Others:

    the plain GAN   --config.method.loss=non_saturating --config.method.penalty=none
    PacGAN4         the same with --config.method.packing=4
                    --config.training.batch_size=1024
                    --config.model.d_widths="(128,128,128)"
    WGAN-GP         --config.method.loss=wasserstein --config.method.penalty=wgan_gp
                    --config.method.critic_steps=5 --config.training.batch_size=640
                    --config.method.penalty_weight=0.1

benchmarks/gan_modes.py trains all of them over 10 seeds. Hardware: one CPU core, under
a minute. The number to expect: 25 `modes`, `high_quality` 0.957 +- 0.009 (exact
samples: 0.988) and `mode_kl` 0.0066 +- 0.0019 (exact samples: 0.0048); the plain GAN
finds 18.5 +- 4.3 modes, PacGAN4 24.7 +- 0.5. This very command gave 25, 0.937, 0.0074.

The generator's activation matters most: after 8,000 steps of 256 with networks of 3 x
64, relu gave 25 modes with 0.92 of high quality, leaky_relu and tanh 19 to 24 with 0.39
to 0.62. A penalty held at 0.01 smooths the Gaussians away (0.89); one that falls to
0.0001 is weak too early, and the modes are then less even.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "gaussians25"
    config.data.dir = placeholder(str)
    config.data.num_train = 100_000

    config.model = ConfigDict()
    config.model.backbone = "mlp"
    config.model.latent_dim = 2
    config.model.g_widths = (64, 64, 64, 64)
    config.model.d_widths = (64, 64, 64)
    config.model.activation = "relu"  # its flat parts are what a mode is made of
    config.model.num_classes = 0  # 25: both are told the Gaussian

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "relativistic"
    config.method.penalty = "r1_r2"  # or "none", "r1", "wgan_gp", "dragan"
    config.method.penalty_weight = 0.01  # gamma of R1 and R2, lambda of the others
    config.method.penalty_weight_end = 0.0003  # by a cosine; None: constant
    config.method.penalty_every = 1  # above 1: lazily, so many times the weight
    config.method.critic_steps = 1  # each on its own part of the batch
    config.method.packing = 1  # examples that the discriminator sees side by side
    config.method.clip_weights = 0.0  # 0.01: the first Wasserstein GAN; 0: none
    config.method.augment = "none"  # of images: "diffaugment" or "ada"
    config.method.augment_policy = ("translation", "cutout")  # of "diffaugment"
    config.method.ada_target = 0.6  # these two of "ada"
    config.method.ada_speed = 500_000.0  # images in which p could go from 0 to 1
    config.method.flip = False  # of images
    config.method.point_scale = 2.8  # about the standard deviation of the points

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-3
    config.optim.d_learning_rate = placeholder(float)  # None: the generator's
    config.optim.b1 = 0.5
    config.optim.b2 = 0.99
    config.optim.warmup_steps = 0
    config.optim.decay_steps = 20_000
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.999

    config.training = ConfigDict()
    config.training.num_steps = 20_000
    config.training.batch_size = 128
    config.training.log_every = 1_000
    config.training.save_every = 5_000
    config.training.sample_every = 5_000
    config.training.eval_every = 5_000
    config.training.steps_per_call = 1_000
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.truncation = placeholder(float)  # largest number in z; None: any

    config.eval = ConfigDict()
    config.eval.batch_size = 500
    config.eval.num_samples = 2_500
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.data.num_train = 10_000
        config.model.g_widths = (64, 64)
        config.model.d_widths = (64, 64)
        config.model.activation = "leaky_relu"
        config.method.penalty_weight_end = None
        config.method.critic_steps = 2
        config.optim.learning_rate = 1e-3
        config.optim.b1 = 0.8
        config.optim.b2 = 0.999
        config.optim.decay_steps = None
        config.training.num_steps = 2000
        config.training.batch_size = 128
        config.training.log_every = 500
        config.training.save_every = 1000
        config.training.sample_every = 1000
        config.training.eval_every = 2000
        config.eval.batch_size = 100
        config.eval.num_samples = 1000
        config.eval.limit = 1000
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
