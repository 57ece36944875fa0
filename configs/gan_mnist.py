"""DCGAN on MNIST with the non-saturating loss: digits in minutes on one CPU core.

    python launch.py --config=configs/gan_mnist.py --workdir=runs/gan_mnist

Other losses at equal images seen, each with its usual discriminator:

    hinge           --config.method.loss=hinge --config.model.d_norm=none
                    --config.model.d_spectral=True
    WGAN-GP         --config.method.loss=wasserstein --config.method.penalty=wgan_gp
                    --config.method.penalty_weight=10.0 --config.model.d_norm=none
                    --config.optim.b1=0.0 --config.optim.b2=0.9
                    (one critic step a step, as arXiv:1710.10196 takes it, not five)
    R3GAN's loss    --config.method.loss=relativistic --config.method.penalty=r1_r2
                    --config.method.penalty_weight=1.0 --config.model.d_norm=none

Fashion-MNIST: --config.data.name=fashion_mnist. Hardware: one CPU core, 5 minutes
(26 ms a step); WGAN-GP 6, R3GAN's loss 14. The number to expect, in the features of
--extractor=mnist_lenet512_v1: a Frechet distance of 121, 91 (hinge), 118 (WGAN-GP) or
90 (R3GAN's loss), where the test split has 2.5.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mnist"
    config.data.dir = placeholder(str)
    config.data.num_train = placeholder(int)

    config.model = ConfigDict()
    config.model.backbone = "dcgan"
    config.model.latent_dim = 64
    config.model.g_channels = 32
    config.model.d_channels = 32
    config.model.d_norm = "batch"  # "none": for penalties
    config.model.d_spectral = False  # True: its weights have spectral norm 1
    config.model.d_minibatch_std = False
    config.model.num_classes = 0  # 10: class-conditional

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "non_saturating"
    config.method.penalty = "none"  # none, r1, r1_r2, wgan_gp or dragan
    config.method.penalty_weight = 0.0  # gamma of R1 and R2, lambda of the others
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
    config.optim.ema_decay = 0.998

    config.training = ConfigDict()
    config.training.num_steps = 10_000
    config.training.batch_size = 64
    config.training.log_every = 100
    config.training.save_every = 1_000
    config.training.sample_every = 1_000
    config.training.eval_every = 4_000
    config.training.steps_per_call = 50
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.truncation = placeholder(float)  # largest number in z; None: any

    config.eval = ConfigDict()
    config.eval.batch_size = 500
    config.eval.num_samples = 10_000
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
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
