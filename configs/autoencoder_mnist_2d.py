"""The deep autoencoder on MNIST with a code of two numbers, which a picture can show.

    python launch.py --config=configs/autoencoder_mnist_2d.py --workdir=runs/ae_2d

Measured on the first 2,000 test images after 20 epochs (9,360 steps, 3 minutes on one
CPU core): squared error 26.1 an image, where PCA with 2 components leaves 44.1; 1-NN
accuracy of the code .786 against .388. All 100 epochs were not run.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="autoencoder",
    data=dict(name="mnist"),
    model=dict(
        backbone="dense", code_size=2, widths=(1000, 500, 250), activation="gelu"
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
