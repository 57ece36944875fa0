"""DCGAN on MNIST with the non-saturating loss: digits in minutes on one CPU core.

    python launch.py --config=configs/gan_mnist.py --workdir=runs/gan_mnist

Other losses at equal images seen, each with its usual discriminator:
`--config=configs/gan_mnist.py:hinge`, `:wgan_gp` (one critic step a step, as
arXiv:1710.10196 takes it, not five) and `:r3gan_loss`.

Fashion-MNIST: --config.data.name=fashion_mnist. Hardware: one CPU core, 5 minutes
(26 ms a step); WGAN-GP 6, R3GAN's loss 14. The number to expect, in the features of
--extractor=mnist_lenet512_v1: a Frechet distance of 121, 91 (hinge), 118 (WGAN-GP) or
90 (R3GAN's loss), where the test split has 2.5.
"""

from genjax.variants import with_variants

TIME = "5 min, 1 core"
CONFIG = dict(
    experiment="gan",
    data=dict(name="mnist"),
    model=dict(backbone="dcgan", latent_dim=64, g_channels=32, d_channels=32),
    optim=dict(ema_decay=0.998),
    training=dict(eval_every=4000),
    evaluation=dict(batch_size=500),
)
VARIANTS = dict(
    hinge=dict(
        model=dict(d_norm="none", d_spectral=True),
        method=dict(loss="hinge"),
    ),
    wgan_gp=dict(
        model=dict(d_norm="none"),
        method=dict(loss="wasserstein", penalty=dict(name="wgan_gp", weight=10.0)),
        optim=dict(b1=0.0, b2=0.9),
    ),
    r3gan_loss=dict(
        model=dict(d_norm="none"),
        method=dict(loss="relativistic", penalty=dict(name="r1_r2", weight=1.0)),
    ),
)

get_config = with_variants(CONFIG, VARIANTS)
