"""VQ-VAE on scikit-learn's 8x8 digits: 4 codes out of 32 for each image.

    python launch.py --config=configs/vqvae_digits.py --workdir=runs/vqvae_digits

Hardware: one CPU core, 20 seconds when it is free. Measured: bound 96.6 nats an image
on the test rows, where a model of independent pixels gets 106.3; all 32 codes in use.
More steps overfit.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(variant: str = "") -> ConfigDict:
    """The config, or its "tiny" variant for tests."""
    config = ConfigDict()
    config.experiment = "vqvae"
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = placeholder(str)

    config.model = ConfigDict()
    config.model.channels = (16, 32)  # each halves the map: 8 to 2
    config.model.num_res_blocks = 1
    config.model.activation = "relu"
    config.model.code_dim = 16  # fsq: one a level instead

    config.method = ConfigDict()
    config.method.bottleneck = "vq"  # vq, fsq or gaussian
    config.method.num_codes = 32  # vq
    config.method.commitment = 0.25  # vq, as all down to restart_below
    config.method.codebook_decay = 0.99
    config.method.smoothing = 1e-5
    config.method.kmeans_iterations = 10  # 0: random codes at the start
    config.method.restart_below = 0.05  # of an equal share; 0.0: no restart
    config.method.levels = (4, 3, 3)  # fsq
    config.method.usage_steps = 6  # 384 images, about the test set

    config.optim = ConfigDict()
    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 100
    config.optim.decay_steps = 1_000
    config.optim.clip = placeholder(float)

    config.training = ConfigDict()
    config.training.num_steps = 1_000
    config.training.batch_size = 64
    config.training.log_every = 100
    config.training.save_every = 500
    config.training.sample_every = 500
    config.training.eval_every = 1_000
    config.training.steps_per_call = 10
    config.training.keep_last = 2
    config.training.keep_every = placeholder(int)
    config.training.keep_best_by = placeholder(str)  # a metric; lower is better

    config.sampler = ConfigDict()
    config.sampler.pixels = "mean"  # of each pixel's distribution; or "draw" from it

    config.eval = ConfigDict()
    config.eval.batch_size = 128
    config.eval.num_samples = 1000
    config.eval.limit = placeholder(int)  # None: the whole test set

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1

    if variant == "tiny":
        config.model.channels = (4,)
        config.model.num_res_blocks = 0
        config.model.code_dim = 2
        config.method.num_codes = 4
        config.method.kmeans_iterations = 1
        config.method.usage_steps = 2
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
        config.eval.num_samples = 16
        config.eval.limit = 32
    elif variant:
        raise ValueError(f"there is no variant {variant!r} of this config; try 'tiny'")
    return config
