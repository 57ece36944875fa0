"""A convolutional autoencoder on MNIST with a code of 30 numbers.

    python launch.py --config=configs/autoencoder_mnist_conv.py --workdir=runs/ae_conv

Hardware: 2 CPU cores, 10 epochs. PCA with 30 components leaves a test squared error of
13.87 an image; expect well below that (not yet trained as a whole).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "autoencoder"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mnist"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.kind = "conv"
    config.model.code_size = 30
    config.model.channels = (16, 32)  # each halves the resolution
    config.model.num_res_blocks = 0
    config.model.activation = "gelu"
    config.model.output = "sigmoid"

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 500
    config.optim.decay_steps = 4_680
    config.optim.clip = placeholder(float)
    config.optim.weight_decay = 0.0

    config.training = ConfigDict()
    config.training.num_steps = 4_680
    config.training.batch_size = 128
    config.training.log_every = 117
    config.training.save_every = 936
    config.training.sample_every = 936
    config.training.eval_every = 4_680
    config.training.steps_per_call = 39
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # an autoencoder has none

    config.eval = ConfigDict()
    config.eval.batch_size = 1000
    config.eval.num_samples = 0
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.code_size = 3
        config.model.channels = (4, 4)
        config.optim.warmup_steps = 1
        config.optim.decay_steps = 4
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
