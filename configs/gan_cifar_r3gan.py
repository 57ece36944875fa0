"""R3GAN on CIFAR-10, class-conditional, with the numbers of arXiv:2501.05441.

    python launch.py --config=configs/gan_cifar_r3gan.py --workdir=runs/gan_cifar_r3gan

Relativistic loss with R1 and R2, whose weight falls from 0.05 to 0.005. Published FID:
1.96, on 8 GPUs. Not theirs: the augmentation is adaptive instead of rising on a
schedule, the learning rate falls to 0 instead of 5e-5, b2 stays 0.99 instead of rising
from 0.9, the average does not lengthen, and the number of steps, 102 million images, is
ours. Hardware: data-centre GPUs; a lesser one: --config.model.widths=(128,128,128,128)
--config.training.batch_size=128. Own figures: not yet measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="gan",
    data=dict(name="cifar10"),
    model=dict(backbone="r3gan", latent_dim=64, num_classes=None),
    method=dict(
        loss="relativistic",
        penalty=dict(name="r1_r2", weight=0.05, weight_end=0.005, decay_steps=200_000),
    ),
    augment=dict(kind="ada"),
    inputs=dict(flip=True),
    optim=dict(b1=0.0, b2=0.99, decay_steps=200_000, ema_decay=0.99993),
    training=dict(
        num_steps=200_000,
        batch_size=512,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=20_000,
    ),
    evaluation=dict(batch_size=500),
)

get_config = with_variants(CONFIG)
