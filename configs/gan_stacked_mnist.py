"""Stacked MNIST: which of 1,000 modes does a GAN find, and how evenly?

    python launch.py --config=configs/gan_stacked_mnist.py --workdir=runs/gan_stacked

PacGAN's protocol (Lin et al. 2018, arXiv:1712.04086): 128,000 images of three digits in
the three channels, batches of 64, Adam at 2e-4 with b1 = 0.5, 50 epochs, 26,000 samples
to count. The loss is R3GAN's (Huang et al. 2024, arXiv:2501.05441). Others:
`--config=configs/gan_stacked_mnist.py:dcgan`, `:pacdcgan4` (a batch counts packs) and
`:wgan_gp`.

Published, modes and KL: DCGAN 99 and 3.40, PacDCGAN 1,000 and 0.06 (PacGAN), this loss
1,000 and 0.0781, the plain loss with R1 and R2 693 and 0.927 (R3GAN, table 2).
Hardware: a GPU. On a CPU core, 8,000 steps with 32 channels took 7 minutes and found
1,000 modes with a KL of 0.304 (real test pictures: 0.0256). The whole was not yet run.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="gan",
    data=dict(name="stacked_mnist", num_train=128_000),
    model=dict(backbone="dcgan", latent_dim=100, d_norm="none"),
    method=dict(loss="relativistic", penalty=dict(name="r1_r2", weight=1.0)),
    training=dict(
        num_steps=100_000,
        log_every=1000,
        save_every=10_000,
        sample_every=10_000,
        eval_every=20_000,
    ),
    evaluation=dict(batch_size=500, num_samples=26_000),
)
PLAIN = dict(loss="non_saturating", penalty=dict(name="none"))
VARIANTS = dict(
    dcgan=dict(model=dict(d_norm="batch"), method=PLAIN),
    pacdcgan4=dict(
        model=dict(d_norm="batch"),
        method=dict(**PLAIN, packing=4),
        training=dict(batch_size=256),
    ),
    wgan_gp=dict(
        method=dict(loss="wasserstein", penalty=dict(name="wgan_gp", weight=10.0))
    ),
    tiny=dict(data=dict(num_train=100)),
)

get_config = with_variants(CONFIG, VARIANTS)
