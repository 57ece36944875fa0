"""A convolutional VAE of 8-bit MNIST with a discretised-logistic likelihood.

    python launch.py --config=configs/vae_mnist_conv.py

Not yet trained as a whole. A model of independent pixels gets 1.690 bits/dim.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "vae"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mnist"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.backbone = "conv"
    config.model.widths = (32, 64)  # channels
    config.model.latent_dim = 32
    config.model.activation = "relu"

    config.method = ConfigDict()
    config.method.likelihood = "logistic"
    config.method.objective = "elbo"  # iwae, dreg
    config.method.num_samples = 1  # k
    config.method.beta = 1.0
    config.method.beta_warmup_steps = 500
    config.method.free_bits = 0.0  # nats a dimension of the code

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.weight_decay = 0.0
    config.optim.warmup_steps = 0
    config.optim.decay_steps = 6_000
    config.optim.clip = 100.0

    config.training = ConfigDict()
    config.training.num_steps = 6_000  # 10 epochs
    config.training.batch_size = 100
    config.training.log_every = 100
    config.training.save_every = 1_000
    config.training.sample_every = 1_000
    config.training.eval_every = 6_000
    config.training.steps_per_call = 10
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.draw_pixels = False  # show the mean of p(x|z)

    config.eval = ConfigDict()
    config.eval.batch_size = 100
    config.eval.num_samples = 10_000
    config.eval.importance_samples = 100
    config.eval.refine_steps = 0  # say 500: the amortisation gap, by local steps
    config.eval.refine_learning_rate = 0.02
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.widths = (4,)
        config.model.latent_dim = 3
        config.optim.decay_steps = 4
        config.training.num_steps = 4
        config.training.batch_size = 8
        config.training.log_every = 2
        config.training.save_every = 2
        config.training.sample_every = 4
        config.training.eval_every = 4
        config.training.steps_per_call = 2
        config.eval.batch_size = 16
        config.eval.num_samples = 16
        config.eval.importance_samples = 7
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
