"""SNGAN with projection on CIFAR-10: class-conditional, hinge loss, spectral norm.

    python launch.py --config=configs/gan_cifar.py --workdir=runs/gan_cifar

Networks and numbers of Miyato et al. 2018 (arXiv:1802.05957, appendix B) and Miyato &
Koyama 2018 (arXiv:1802.05637): five critic steps a step on 64 images each, Adam at 2e-4
with b1 = 0 and b2 = 0.9. Not theirs: the generator's batch is 64 too, the learning rate
falls by a cosine, and samples are those of an average of the weights. Published for
this network without labels, after 100,000 steps, by w86763777/pytorch-gan-collections:
FID 14.3 against the training images. Hardware: a data-centre GPU. Own figures: not yet
measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="gan",
    data=dict(name="cifar10"),
    model=dict(backbone="sngan", latent_dim=128, num_classes=None),
    method=dict(loss="hinge", critic_steps=5),
    optim=dict(b1=0.0, b2=0.9, decay_steps=100_000),
    training=dict(
        num_steps=100_000,
        batch_size=320,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=20_000,
    ),
    evaluation=dict(batch_size=500),
)
VARIANTS = dict(tiny=dict(method=dict(critic_steps=2)))

get_config = with_variants(CONFIG, VARIANTS)
