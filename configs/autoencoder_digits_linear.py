"""A linear autoencoder on scikit-learn's 8x8 digits: gradients find PCA's subspace.

    python launch.py --config=configs/autoencoder_digits_linear.py --workdir=runs/ae_dl

Hardware: 1 busy CPU core, 6 s of training. Measured: test squared error 1.316, as
PCA's; largest angle between the decoder's span and PCA's subspace 0.02 degrees.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "autoencoder"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.kind = "dense"
    config.model.code_size = 10
    config.model.widths = ()  # affine maps: the answer is PCA
    config.model.activation = "linear"
    config.model.output = "linear"

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-2
    config.optim.warmup_steps = 100
    config.optim.decay_steps = 10_000
    config.optim.clip = placeholder(float)
    config.optim.weight_decay = 0.0

    config.training = ConfigDict()
    config.training.num_steps = 10_000
    config.training.batch_size = 100
    config.training.log_every = 500
    config.training.save_every = 2_500
    config.training.sample_every = 2_500
    config.training.eval_every = 2_500
    config.training.steps_per_call = 500
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()  # an autoencoder has none

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 0
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.code_size = 3
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
