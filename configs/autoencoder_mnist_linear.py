"""A linear autoencoder on MNIST, 30 numbers: gradients find PCA's subspace.

    python launch.py --config=configs/autoencoder_mnist_linear.py --workdir=runs/ae_lin

Hardware: 33 s of one CPU core. Measured: test squared error 13.866, as PCA's;
largest angle between the decoder's span and PCA's subspace 0.20 degrees.
"""

from genjax.variants import with_variants

TIME = "33 s, 1 core"
CONFIG = dict(
    experiment="autoencoder",
    data=dict(name="mnist"),
    # affine maps: the answer is PCA
    model=dict(
        backbone="dense", code_size=30, widths=(), activation="linear", output="linear"
    ),
    optim=dict(learning_rate=0.01, warmup_steps=500, decay_steps=6000),
    training=dict(
        num_steps=6000,
        batch_size=1000,
        log_every=300,
        save_every=1500,
        sample_every=1500,
        eval_every=1500,
        steps_per_call=100,
    ),
    evaluation=dict(batch_size=1000, num_samples=0),
)
VARIANTS = dict(tiny=dict(model=dict(code_size=3)))

get_config = with_variants(CONFIG, VARIANTS)
