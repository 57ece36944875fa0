"""A GAN on scikit-learn's 8x8 digits, class-conditional, in minutes.

    python launch.py --config=configs/gan_digits.py --workdir=runs/gan_digits

1,000 images are few for a discriminator, so what it sees is augmented, as much as it
overfits (`augment_p` among the metrics). A column of the picture for each class:

    python launch.py --config=configs/gan_digits.py --workdir=runs/gan_digits \
        --mode=sample --num_samples=100 --labels=0,1,2,3,4,5,6,7,8,9

Hardware: 1 CPU core, a minute. The number to expect: `frechet_pixels` 0.09, where 447
test images have 0.29. The panel shows that it leans on its few images: C_T is -4.4
(`data_copying_pixels`), and `augment_p` has stayed below 0.001.
"""

from genjax.variants import with_variants

TIME = "1 min, 1 core"
CONFIG = dict(
    experiment="gan",
    model=dict(
        backbone="mlp",
        latent_dim=32,
        g_widths=(256, 256),
        d_widths=(256, 256),
        num_classes=None,
    ),
    method=dict(penalty=dict(name="r1", weight=0.1)),
    augment=dict(kind="ada", ada_speed=100000.0),
    optim=dict(learning_rate=0.0005, b2=0.99, ema_decay=0.998),
    training=dict(num_steps=5000),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(tiny=dict(model=dict(latent_dim=8, g_widths=(16,), d_widths=(16,))))

get_config = with_variants(CONFIG, VARIANTS)
