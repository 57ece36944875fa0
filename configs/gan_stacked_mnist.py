"""Stacked MNIST: which of 1,000 modes does a GAN find, and how evenly?

    python launch.py --config=configs/gan_stacked_mnist.py --workdir=runs/gan_stacked

PacGAN's protocol (Lin et al. 2018, arXiv:1712.04086): 128,000 images of three digits in
the three channels, batches of 64, Adam at 2e-4 with b1 = 0.5, 50 epochs, 26,000 samples
to count. The loss is R3GAN's (Huang et al. 2024, arXiv:2501.05441). Others:

    DCGAN       --config.method.loss=non_saturating --config.method.penalty=none
                --config.model.d_norm=batch
    PacDCGAN4   the same with --config.method.packing=4 --config.training.batch_size=256
    WGAN-GP     --config.method.loss=wasserstein --config.method.penalty=wgan_gp
                --config.method.penalty_weight=10.0

Published, modes and KL: DCGAN 99 and 3.40, PacDCGAN 1,000 and 0.06 (PacGAN), this loss
1,000 and 0.0781, the plain loss with R1 and R2 693 and 0.927 (R3GAN, table 2).
Hardware: a GPU. On a CPU core, 8,000 steps with 32 channels took 7 minutes and found
1,000 modes with a KL of 0.304 (real test pictures: 0.0256). The whole was not yet run.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "stacked_mnist"
    config.data.dir = placeholder(str)
    config.data.num_train = 128_000

    config.model = ConfigDict()
    config.model.backbone = "dcgan"
    config.model.latent_dim = 100
    config.model.g_channels = 64
    config.model.d_channels = 64
    config.model.d_norm = "none"  # "batch": without a penalty only
    config.model.d_spectral = False  # True: its weights have spectral norm 1
    config.model.d_minibatch_std = False
    config.model.num_classes = 0  # 1000: class-conditional

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "relativistic"
    config.method.penalty = "r1_r2"  # none, r1, r1_r2, wgan_gp or dragan
    config.method.penalty_weight = 1.0  # gamma of R1 and R2, lambda of the others
    config.method.penalty_weight_end = placeholder(float)  # by a cosine; None: constant
    config.method.penalty_every = 1  # above 1: lazily, so many times the weight
    config.method.critic_steps = 1  # each on its own part of the batch
    config.method.packing = 1  # examples that the discriminator sees side by side
    config.method.clip_weights = 0.0  # 0.01: the first Wasserstein GAN; 0: none
    config.method.augment = "none"  # of what it sees: none, diffaugment or ada
    config.method.augment_policy = ("color", "translation", "cutout")  # "diffaugment"
    config.method.ada_target = 0.6  # these two of "ada": share of data known for sure
    config.method.ada_speed = 500_000.0  # images in which p could go from 0 to 1
    config.method.flip = False  # mirror half of them; a mirrored digit is no digit
    config.method.point_scale = 1.0

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-4
    config.optim.d_learning_rate = placeholder(float)  # None: the generator's
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.warmup_steps = 0
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.999

    config.training = ConfigDict()
    config.training.num_steps = 100_000
    config.training.batch_size = 64
    config.training.log_every = 1_000
    config.training.save_every = 10_000
    config.training.sample_every = 10_000
    config.training.eval_every = 20_000
    config.training.steps_per_call = 50
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.truncation = placeholder(float)  # largest number in z; None: any

    config.eval = ConfigDict()
    config.eval.batch_size = 500
    config.eval.num_samples = 26_000
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.data.num_train = 100
        config.model.latent_dim = 8
        config.model.g_channels = 8
        config.model.d_channels = 8
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
