"""CycleGAN between scikit-learn's digits and what a known map makes of others of them.

    python launch.py --config=configs/cyclegan_digits.py --workdir=runs/cyclegan_digits

8 x 8 pixels: to try things out, and for tests. 500 digits are domain A, the other 500,
inverted, domain B. Another map: --config.data.known_map=rotated.

Hardware: 1 CPU core, about a minute. The number to expect: `rmse_a_to_b` 0.11, where
the untouched image is 0.85 away from the truth (`rmse_untouched`), and `cycle_l1` 0.05.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "cyclegan"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "domains"
    config.data.dir = placeholder(str)
    config.data.image_size = placeholder(int)
    config.data.color = placeholder(str)  # rgb or gray; None: as it is
    config.data.a = ConfigDict()
    config.data.a.name = "digits"  # an image data set, as data.name elsewhere
    config.data.a.dir = placeholder(str)
    config.data.a.train_split = placeholder(str)
    config.data.a.eval_split = placeholder(str)
    config.data.a.label = placeholder(int)  # only the images of this class
    config.data.b = ConfigDict()
    config.data.b.name = placeholder(str)
    config.data.b.dir = placeholder(str)
    config.data.b.train_split = placeholder(str)
    config.data.b.eval_split = placeholder(str)
    config.data.b.label = placeholder(int)
    config.data.known_map = "inverted"  # in the place of b

    config.model = ConfigDict()
    config.model.channels = 8
    config.model.num_downs = 0  # each halves height and width
    config.model.num_blocks = 1
    config.model.d_channels = (16, 32)  # patches of 16 x 16: all of it

    config.method = ConfigDict()
    config.method.cycle_weight = 10.0
    # 5.0 keeps the colours, half the cycle's as in the paper; here they should change
    config.method.identity_weight = 0.0
    config.method.pool_size = 50  # earlier translations, for the discriminators
    config.method.flip = False
    config.method.resize = placeholder(int)  # to this side, then a random crop

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.constant_steps = 1_000  # then the rate falls linearly to 0
    config.optim.decay_steps = 1_000  # over so many steps
    config.optim.ema_decay = 0.99  # of the generators; 0: none

    config.training = ConfigDict()
    config.training.num_steps = 2_000
    config.training.batch_size = 16
    config.training.log_every = 100
    config.training.save_every = 1000
    config.training.sample_every = 1000
    config.training.eval_every = 1000
    config.training.steps_per_call = 50
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # translations are drawn of images, not of noise

    config.eval = ConfigDict()
    config.eval.batch_size = 149
    config.eval.num_samples = 0
    config.eval.limit = placeholder(int)  # None: the whole test split

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.channels = 4
        config.model.num_downs = 1
        config.model.num_blocks = 1
        config.model.d_channels = (4, 8)
        config.method.pool_size = 12
        config.optim.constant_steps = 2
        config.optim.decay_steps = 2
        config.training.num_steps = 4
        config.training.batch_size = 8
        config.training.log_every = 2
        config.training.save_every = 2
        config.training.sample_every = 4
        config.training.eval_every = 4
        config.training.steps_per_call = 2
        config.eval.batch_size = 16
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
