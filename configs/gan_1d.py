"""A GAN on the line: densities and discriminator as a film, saturation as curves.

    python launch.py --config=configs/gan_1d.py --workdir=runs/gan_1d
    python launch.py --config=configs/gan_1d.py --workdir=runs/gan_1d_minimax \
        --config.method.loss=minimax
    python launch.py --config=configs/gan_1d.py --workdir=runs/gan_1d --mode=implicit \
        --beside=runs/gan_1d_minimax

Hardware: one CPU core, 1 to 3 minutes a run as others use it too, and 1 for the
pictures. The numbers to expect, of this loss and of minimax: the norm of the
generator's gradient 10.7 and 0.001 at step 1,000, for the discriminator is sure of its
samples; `wasserstein1` 0.34 and 4.3 at step 4,000, 0.023 and 0.015 in the end; `jsd`
then 0.019 and below 0.001 nats. Minimax comes late, but it comes: Adam divides a small
gradient by its own size.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "gan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "gaussian1d"
    config.data.dir = placeholder(str)
    config.data.num_train = 50_000

    config.model = ConfigDict()
    config.model.backbone = "mlp"
    config.model.latent_dim = 1
    config.model.g_widths = (32, 32)
    config.model.d_widths = (32, 32)
    config.model.activation = "leaky_relu"
    config.model.num_classes = 0

    config.method = ConfigDict()
    # minimax, non_saturating, least_squares, hinge, wasserstein or relativistic
    config.method.loss = "non_saturating"
    config.method.penalty = "none"  # or "r1", "r1_r2", "wgan_gp", "dragan"
    config.method.penalty_weight = 0.01  # gamma of R1 and R2, lambda of the others
    config.method.penalty_weight_end = placeholder(float)  # by a cosine; None: constant
    config.method.penalty_every = 1  # above 1: lazily, so many times the weight
    config.method.critic_steps = 4  # D stays near its optimum
    config.method.packing = 1  # examples that the discriminator sees side by side
    config.method.clip_weights = 0.0  # 0.01: the first Wasserstein GAN; 0: none
    config.method.augment = "none"  # of images: "diffaugment" or "ada"
    config.method.augment_policy = ("translation", "cutout")  # of "diffaugment"
    config.method.ada_target = 0.6  # these two of "ada"
    config.method.ada_speed = 500_000.0  # images in which p could go from 0 to 1
    config.method.flip = False  # of images
    config.method.point_scale = 1.0  # the data stay six sigma from the first samples

    config.optim = ConfigDict()
    config.optim.learning_rate = 4e-5  # slow beside D's: one long journey
    config.optim.d_learning_rate = 2e-3
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.warmup_steps = 0
    config.optim.decay_steps = placeholder(int)
    config.optim.clip = placeholder(float)
    config.optim.ema_decay = 0.999

    config.training = ConfigDict()
    config.training.num_steps = 16_000
    config.training.batch_size = 512
    config.training.log_every = 100
    config.training.save_every = 400
    config.training.sample_every = 8_000
    config.training.eval_every = 16_000
    config.training.steps_per_call = 100
    config.training.keep_last = 2
    config.training.keep_every = 400  # the frames of --mode=implicit
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
        config.model.g_widths = (8,)
        config.model.d_widths = (16,)
        config.method.critic_steps = 2
        config.optim.learning_rate = 1e-3
        config.training.num_steps = 400
        config.training.batch_size = 128
        config.training.log_every = 50
        config.training.save_every = 100
        config.training.sample_every = 400
        config.training.eval_every = 400
        config.training.steps_per_call = 50
        config.training.keep_every = 100
        config.eval.batch_size = 100
        config.eval.num_samples = 200
        config.eval.limit = 200
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
