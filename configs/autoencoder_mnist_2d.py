"""The deep autoencoder on MNIST with a code of two numbers, which a picture can show.

    python launch.py --config=configs/autoencoder_mnist_2d.py --workdir=runs/ae_2d

Measured on the first 2,000 test images after 20 epochs (9,360 steps, 3 minutes on one
CPU core): squared error 26.1 an image, where PCA with 2 components leaves 44.1; 1-NN
accuracy of the code .786 against .388. All 100 epochs were not run.
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
    config.model.kind = "dense"
    config.model.code_size = 2
    config.model.widths = (1000, 500, 250)  # the decoder mirrors them
    config.model.activation = "gelu"
    config.model.output = "sigmoid"

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 500
    config.optim.decay_steps = 46_800
    config.optim.clip = placeholder(float)
    config.optim.weight_decay = 0.0

    config.training = ConfigDict()
    config.training.num_steps = 46_800
    config.training.batch_size = 128
    config.training.log_every = 468
    config.training.save_every = 4_680
    config.training.sample_every = 4_680
    config.training.eval_every = 4_680
    config.training.steps_per_call = 234
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
        config.model.widths = (8,)
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
