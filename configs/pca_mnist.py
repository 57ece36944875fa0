"""PCA and probabilistic PCA on MNIST, 30 components: one pass over the data.

    python launch.py --config=configs/pca_mnist.py --workdir=runs/pca_mnist

Hardware: 2 CPU cores, under a minute. The numbers are known in closed form: squared
error 13.866 (2 components 43.65, 10 26.71, 64 7.09), log density 394.616 nats.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "pca"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mnist"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.num_components = 30

    config.optim = ConfigDict()
    config.optim.learning_rate = 1.0  # every row counts as much as any other

    config.training = ConfigDict()
    config.training.num_steps = 60  # one epoch: after it all moments are exact
    config.training.batch_size = 1000
    config.training.log_every = 60
    config.training.save_every = 60
    config.training.sample_every = 60
    config.training.eval_every = 60
    config.training.steps_per_call = 60
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # the Gaussian needs no choices

    config.eval = ConfigDict()
    config.eval.batch_size = 1000
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
