"""A convolutional autoencoder on MNIST with a code of 30 numbers.

    python launch.py --config=configs/autoencoder_mnist_conv.py --workdir=runs/ae_conv

Hardware: 2 CPU cores, 10 epochs. PCA with 30 components leaves a test squared error of
13.87 an image; expect well below that (not yet trained as a whole).
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="autoencoder",
    data=dict(name="mnist"),
    model=dict(backbone="conv", code_size=30, channels=(16, 32), activation="gelu"),
    optim=dict(warmup_steps=500, decay_steps=4680),
    training=dict(
        num_steps=4680,
        batch_size=128,
        log_every=117,
        save_every=936,
        sample_every=936,
        eval_every=4680,
        steps_per_call=39,
    ),
    evaluation=dict(batch_size=1000, num_samples=0),
)
VARIANTS = dict(tiny=dict(model=dict(code_size=3, channels=(4, 4))))

get_config = with_variants(CONFIG, VARIANTS)
