"""PCA and probabilistic PCA on scikit-learn's 8x8 digits, 10 components.

    python launch.py --config=configs/pca_digits.py --workdir=runs/pca_digits

Hardware: any, seconds. The number is known in closed form: squared error 1.316 (2
components 3.396, 16 0.789).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "pca"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.num_components = 10

    config.optim = ConfigDict()
    config.optim.learning_rate = 1.0  # every row counts as much as any other

    config.training = ConfigDict()
    config.training.num_steps = 10  # one epoch: after it all moments are exact
    config.training.batch_size = 100
    config.training.log_every = 10
    config.training.save_every = 10
    config.training.sample_every = 10
    config.training.eval_every = 10
    config.training.steps_per_call = 10
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # the Gaussian needs no choices

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 1000
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.num_components = 3
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
