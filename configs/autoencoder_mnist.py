"""The deep autoencoder of Hinton & Salakhutdinov 2006 on MNIST: 784-1000-500-250-30.

    python launch.py --config=configs/autoencoder_mnist.py --workdir=runs/ae_mnist

Hardware: one CPU core; an hour beside four other jobs. Published: 3.00. Test squared
error an image: 3.28 after 30 epochs, 3.14 after 50, 3.25 after 100 (it overfits);
PCA-30 leaves 13.87.
"""

from genjax.variants import with_variants

TIME = "1 h, 1 busy core"
CONFIG = dict(
    experiment="autoencoder",
    data=dict(name="mnist"),
    model=dict(
        backbone="dense", code_size=30, widths=(1000, 500, 250), activation="gelu"
    ),
    optim=dict(warmup_steps=500, decay_steps=46_800),
    training=dict(
        num_steps=46_800,
        batch_size=128,
        log_every=468,
        save_every=4680,
        sample_every=4680,
        eval_every=4680,
        steps_per_call=234,
    ),
    evaluation=dict(batch_size=1000, num_samples=0),
)
VARIANTS = dict(tiny=dict(model=dict(code_size=3, widths=(8,))))

get_config = with_variants(CONFIG, VARIANTS)
