r"""CycleGAN between MNIST and scikit-learn's digits: two hands, and no pairs.

    python launch.py --config=configs/cyclegan_mnist_digits.py \
        --workdir=runs/cyclegan_mnist_digits
    python launch.py --config=configs/cyclegan_mnist_digits.py \
        --workdir=runs/cyclegan_mnist_digits --mode=translate \
        --extractor=mnist_lenet512_v1

The digits, 8 x 8 pixels of 17 levels, are enlarged to 28 x 28 of 256. There are 1,000
of them to train on, and of MNIST 60,000. The second command prints the share of the
test images whose label a classifier of MNIST still reads after translation, beside what
it reads of images that are not translated.

Hardware: 1 CPU core, 9 minutes (64 ms a step). The number to expect:
`label_preservation` 0.71 from MNIST to the digits and 0.70 back (the same classifier
reads 0.61 of the digits as they are), `cycle_l1` 0.03. Without cycles,
--config.method.cycle_weight=0, 0.64, 0.50 and 0.11: figures turn into others.
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
    config.data.image_size = 28
    config.data.color = placeholder(str)  # rgb or gray; None: as it is
    config.data.a = ConfigDict()
    config.data.a.name = "mnist"  # an image data set, as data.name elsewhere
    config.data.a.dir = placeholder(str)
    config.data.a.train_split = placeholder(str)
    config.data.a.eval_split = placeholder(str)
    config.data.a.label = placeholder(int)  # only the images of this class
    config.data.b = ConfigDict()
    config.data.b.name = "digits"
    config.data.b.dir = placeholder(str)
    config.data.b.train_split = placeholder(str)
    config.data.b.eval_split = placeholder(str)
    config.data.b.label = placeholder(int)
    config.data.known_map = placeholder(str)  # in the place of b

    config.model = ConfigDict()
    config.model.channels = 16
    config.model.num_downs = 2  # each halves height and width
    config.model.num_blocks = 3
    config.model.d_channels = (16, 32, 64)  # patches of 34 x 34: all of it

    config.method = ConfigDict()
    config.method.cycle_weight = 10.0
    config.method.identity_weight = 5.0
    config.method.pool_size = 50  # earlier translations, for the discriminators
    config.method.flip = False
    config.method.resize = placeholder(int)  # to this side, then a random crop

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-4
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.constant_steps = 4_000  # then the rate falls linearly to 0
    config.optim.decay_steps = 4_000  # over so many steps
    config.optim.ema_decay = 0.999  # of the generators; 0: none

    config.training = ConfigDict()
    config.training.num_steps = 8_000
    config.training.batch_size = 8
    config.training.log_every = 100
    config.training.save_every = 1_000
    config.training.sample_every = 1_000
    config.training.eval_every = 10_000
    config.training.steps_per_call = 25
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # translations are drawn of images, not of noise

    config.eval = ConfigDict()
    config.eval.batch_size = 250
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
