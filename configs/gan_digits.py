"""A GAN on scikit-learn's 8x8 digits, class-conditional, in minutes.

    python launch.py --config=configs/gan_digits.py --workdir=runs/gan_digits

1,000 images are few for a discriminator, so what it sees is augmented, as much as it
overfits (`augment_p` among the metrics). A column of the picture for each class:

    python launch.py --config=configs/gan_digits.py --workdir=runs/gan_digits \
        --mode=sample --num_samples=100 --labels=0,1,2,3,4,5,6,7,8,9

Hardware: 1 CPU core, a minute. The number to expect: `frechet_pixels` 0.09, where 447
test images have 0.29. The panel shows that it leans on its few images: C_T is -4.4
(`data_copying_pixels`), and `augment_p` has stayed below 0.001.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)
    config.data.num_train = placeholder(int)

    config.model = ConfigDict()
    config.model.backbone = "mlp"
    config.model.latent_dim = 32
    config.model.g_widths = (256, 256)
    config.model.d_widths = (256, 256)
    config.model.activation = "leaky_relu"
    config.model.num_classes = 10  # 0: no labels

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "non_saturating"
    config.method.penalty = "r1"  # none, r1, r1_r2, wgan_gp or dragan
    config.method.penalty_weight = 0.1  # gamma of R1 and R2, lambda of the others
    config.method.penalty_weight_end = placeholder(float)  # by a cosine; None: constant
    config.method.penalty_every = 1  # above 1: lazily, so many times the weight
    config.method.critic_steps = 1  # each on its own part of the batch
    config.method.packing = 1  # examples that the discriminator sees side by side
    config.method.clip_weights = 0.0  # 0.01: the first Wasserstein GAN; 0: none
    config.method.augment = "ada"  # of what it sees: none, diffaugment or ada
    config.method.augment_policy = ("color", "translation", "cutout")  # "diffaugment"
    config.method.ada_target = 0.6  # these two of "ada": share of data known for sure
    config.method.ada_speed = 100_000.0  # images in which p could go from 0 to 1
    config.method.flip = False  # mirror half of them; a mirrored digit is no digit
    config.method.point_scale = 1.0

    config.optim = ConfigDict()
    config.optim.learning_rate = 5e-4
    config.optim.d_learning_rate = placeholder(float)  # None: the generator's
    config.optim.b1 = 0.5
    config.optim.b2 = 0.99
    config.optim.warmup_steps = 0
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.998

    config.training = ConfigDict()
    config.training.num_steps = 5_000
    config.training.batch_size = 64
    config.training.log_every = 100
    config.training.save_every = 1_000
    config.training.sample_every = 1_000
    config.training.eval_every = 5_000
    config.training.steps_per_call = 50
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.truncation = placeholder(float)  # largest number in z; None: any

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 1000
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.latent_dim = 8
        config.model.g_widths = (16,)
        config.model.d_widths = (16,)
        config.training.num_steps = 4
        config.training.batch_size = 8
        config.training.log_every = 2
        config.training.save_every = 2
        config.training.sample_every = 4
        config.training.eval_every = 4
        config.training.steps_per_call = 2
        config.eval.batch_size = 16
        config.eval.num_samples = 16
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
