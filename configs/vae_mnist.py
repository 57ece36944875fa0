"""One-layer VAE on dynamically binarised MNIST: the first row of IWAE's Table 1.

    python launch.py --config=configs/vae_mnist.py --workdir=runs/vae_mnist

Published (Burda et al. 2016, L_5000 over the test set): 86.76 nats after 3,280 epochs.
Measured after 1,000 epochs (600,000 steps, 47 minutes on one CPU core): 87.05, with 18
active units. A model of independent pixels gets 205.8.

IWAE and DReG: --config.method.objective=iwae --config.method.num_samples=5. After 67
epochs each, over three seeds: 92.3 for k = 1, 90.7 for IWAE, 90.2 for DReG.
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
    config.model.backbone = "dense"  # or "conv", with widths=(32, 64)
    config.model.widths = (200, 200)
    config.model.latent_dim = 50
    config.model.activation = "tanh"

    config.method = ConfigDict()
    config.method.likelihood = "bernoulli"  # of binarised pixels; gaussian, logistic
    config.method.objective = "elbo"  # iwae, dreg
    config.method.num_samples = 1  # k
    config.method.beta = 1.0
    config.method.beta_warmup_steps = 0
    config.method.free_bits = 0.0  # nats a dimension of the code

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.weight_decay = 0.0
    config.optim.warmup_steps = 0
    config.optim.decay_steps = 600_000
    config.optim.clip = placeholder(float)

    config.training = ConfigDict()
    config.training.num_steps = 600_000  # 1,000 epochs
    config.training.batch_size = 100
    config.training.log_every = 6_000
    config.training.save_every = 60_000
    config.training.sample_every = 150_000
    config.training.eval_every = 600_000
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
    config.eval.refine_steps = 0  # say 500: the amortisation gap, by local steps
    config.eval.refine_learning_rate = 0.02
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.widths = (8,)
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
