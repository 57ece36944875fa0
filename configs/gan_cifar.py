"""SNGAN with projection on CIFAR-10: class-conditional, hinge loss, spectral norm.

    python launch.py --config=configs/gan_cifar.py --workdir=runs/gan_cifar

Networks and numbers of Miyato et al. 2018 (arXiv:1802.05957, appendix B) and Miyato &
Koyama 2018 (arXiv:1802.05637): five critic steps a step on 64 images each, Adam at 2e-4
with b1 = 0 and b2 = 0.9. Not theirs: the generator's batch is 64 too, the learning rate
falls by a cosine, and samples are those of an average of the weights. Published for
this network without labels, after 100,000 steps, by w86763777/pytorch-gan-collections:
FID 14.3 against the training images. Hardware: a data-centre GPU. Own figures: not yet
measured.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "cifar10"
    config.data.dir = placeholder(str)
    config.data.num_train = placeholder(int)

    config.model = ConfigDict()
    config.model.backbone = "sngan"
    config.model.latent_dim = 128
    config.model.g_channels = 256
    config.model.d_channels = 128
    config.model.num_classes = 10  # 0: no labels

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "hinge"
    config.method.penalty = "none"  # none, r1, r1_r2, wgan_gp or dragan
    config.method.penalty_weight = 0.0  # gamma of R1 and R2, lambda of the others
    config.method.penalty_weight_end = placeholder(float)  # by a cosine; None: constant
    config.method.penalty_every = 1  # above 1: lazily, so many times the weight
    config.method.critic_steps = 5  # each on its own part of the batch
    config.method.packing = 1  # examples that the discriminator sees side by side
    config.method.clip_weights = 0.0  # 0.01: the first Wasserstein GAN; 0: none
    config.method.augment = "none"  # of what it sees: none, diffaugment or ada
    config.method.augment_policy = ("color", "translation", "cutout")  # "diffaugment"
    config.method.ada_target = 0.6  # these two of "ada": share of data known for sure
    config.method.ada_speed = 500_000.0  # images in which p could go from 0 to 1
    config.method.flip = False  # mirror images half the time
    config.method.point_scale = 1.0

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-4
    config.optim.d_learning_rate = placeholder(float)  # None: the generator's
    config.optim.b1 = 0.0
    config.optim.b2 = 0.9
    config.optim.warmup_steps = 0
    config.optim.decay_steps = 100_000
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.999

    config.training = ConfigDict()
    config.training.num_steps = 100_000
    config.training.batch_size = 320
    config.training.log_every = 500
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
    config.eval.num_samples = 10_000
    config.eval.limit = placeholder(int)

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.latent_dim = 8
        config.model.g_channels = 8
        config.model.d_channels = 8
        config.method.critic_steps = 2
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
