"""A linear autoencoder on scikit-learn's 8x8 digits: gradients find PCA's subspace.

    python launch.py --config=configs/autoencoder_digits_linear.py --workdir=runs/ae_dl

Hardware: 1 busy CPU core, 6 s of training. Measured: test squared error 1.316, as
PCA's; largest angle between the decoder's span and PCA's subspace 0.02 degrees.
"""

from genjax.variants import with_variants

TIME = "6 s, 1 core"
CONFIG = dict(
    experiment="autoencoder",
    # affine maps: the answer is PCA
    model=dict(
        backbone="dense", code_size=10, widths=(), activation="linear", output="linear"
    ),
    optim=dict(learning_rate=0.01, warmup_steps=100, decay_steps=10_000),
    training=dict(
        batch_size=100,
        log_every=500,
        save_every=2500,
        sample_every=2500,
        eval_every=2500,
        steps_per_call=500,
    ),
    evaluation=dict(batch_size=128, num_samples=0),
)
VARIANTS = dict(tiny=dict(model=dict(code_size=3)))

get_config = with_variants(CONFIG, VARIANTS)
