"""An autoencoder on scikit-learn's 8x8 digits, 64-256-128-10.

    python launch.py --config=configs/autoencoder_digits.py --workdir=runs/ae_digits

Hardware: 1 busy CPU core, 12 s of training. Measured: test squared error 0.746 an
image; PCA with 10 components leaves 1.316.
"""

from genjax.variants import with_variants

TIME = "12 s, 1 core"
CONFIG = dict(
    experiment="autoencoder",
    model=dict(backbone="dense", code_size=10, widths=(256, 128), activation="gelu"),
    optim=dict(warmup_steps=100, decay_steps=4000, weight_decay=0.3),
    training=dict(num_steps=4000, batch_size=100, eval_every=1000, steps_per_call=100),
    evaluation=dict(batch_size=128, num_samples=0),
)
VARIANTS = dict(tiny=dict(model=dict(code_size=3, widths=(8,))))

get_config = with_variants(CONFIG, VARIANTS)
