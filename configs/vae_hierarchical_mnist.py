"""Two layers of codes on dynamically binarised MNIST: IWAE's Table 1, lower half.

    python launch.py --config=configs/vae_hierarchical_mnist.py

Published (Burda et al. 2016, L_5000 over the test set), after 3,280 epochs: 85.33 nats
for k = 1; with --config.method.objective=iwae 83.89 for k = 5 and 82.90 for k = 50. Not
yet trained here.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "vae_hierarchical"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "mnist"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.widths = (200, 200)
    config.model.top_widths = (100, 100)  # between z1 and z2
    config.model.latent_dims = (100, 50)  # z1, z2
    config.model.activation = "tanh"

    config.method = ConfigDict()
    config.method.likelihood = "bernoulli"  # of binarised pixels; logistic
    config.method.objective = "elbo"  # iwae
    config.method.num_samples = 1  # k

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.weight_decay = 0.0
    config.optim.warmup_steps = 0
    config.optim.decay_steps = 300_000
    config.optim.clip = placeholder(float)

    config.training = ConfigDict()
    config.training.num_steps = 300_000  # 500 epochs
    config.training.batch_size = 100
    config.training.log_every = 3_000
    config.training.save_every = 30_000
    config.training.sample_every = 60_000
    config.training.eval_every = 300_000
    config.training.steps_per_call = 500
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.draw_pixels = False  # show the mean of p(x|z)

    config.eval = ConfigDict()
    config.eval.batch_size = 100
    config.eval.num_samples = 10_000
    config.eval.importance_samples = 5_000
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.widths = (8,)
        config.model.top_widths = (6,)
        config.model.latent_dims = (4, 3)
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
