r"""CycleGAN between photographs of horses and of zebras, as in the paper.

    python launch.py --config=configs/cyclegan_horse2zebra.py \
        --workdir=runs/cyclegan_horse2zebra
    python launch.py --config=configs/cyclegan_horse2zebra.py \
        --workdir=runs/cyclegan_horse2zebra --mode=translate --direction=a_to_b \
        --input=my_horses/

Zhu et al. 2017 (arXiv:1703.10593, appendix 7): 1,067 horses and 1,334 zebras of 256 x
256 pixels, batches of one image each, 100 epochs at 2e-4 and 100 more while it falls to
0. TFDS downloads 111 MiB. Your own two folders of pictures:

    --config.data.a.name=folder --config.data.a.dir=horses
    --config.data.b.name=folder --config.data.b.dir=zebras
    --config.data.a.train_split=None, and so on for a.eval_split and b's two

Hardware: a GPU; 267,000 steps. Not yet run. No number to expect: look at the pictures.
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
    config.data.image_size = 256
    config.data.color = placeholder(str)  # rgb or gray; None: as it is
    config.data.a = ConfigDict()
    config.data.a.name = (
        "cycle_gan/horse2zebra"  # an image data set, as data.name elsewhere
    )
    config.data.a.dir = placeholder(str)
    config.data.a.train_split = "trainA"
    config.data.a.eval_split = "testA"
    config.data.a.label = placeholder(int)  # only the images of this class
    config.data.b = ConfigDict()
    config.data.b.name = "cycle_gan/horse2zebra"
    config.data.b.dir = placeholder(str)
    config.data.b.train_split = "trainB"
    config.data.b.eval_split = "testB"
    config.data.b.label = placeholder(int)
    config.data.known_map = placeholder(str)  # in the place of b

    config.model = ConfigDict()
    config.model.channels = 64
    config.model.num_downs = 2  # each halves height and width
    config.model.num_blocks = 9
    config.model.d_channels = (64, 128, 256, 512)  # patches of 70 x 70

    config.method = ConfigDict()
    config.method.cycle_weight = 10.0
    config.method.identity_weight = 5.0
    config.method.pool_size = 50  # earlier translations, for the discriminators
    config.method.flip = True
    config.method.resize = 286  # to this side, then a random crop

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-4
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.constant_steps = 133_400  # then the rate falls linearly to 0
    config.optim.decay_steps = 133_400  # over so many steps
    config.optim.ema_decay = 0.0  # of the generators; 0: none

    config.training = ConfigDict()
    config.training.num_steps = 266_800
    config.training.batch_size = 1
    config.training.log_every = 100
    config.training.save_every = 13_340
    config.training.sample_every = 13_340
    config.training.eval_every = 26_680
    config.training.steps_per_call = 20
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # translations are drawn of images, not of noise

    config.eval = ConfigDict()
    config.eval.batch_size = 10
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
        config.data.image_size = 32
        config.method.resize = 36
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
