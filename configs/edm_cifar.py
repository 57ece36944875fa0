"""EDM on CIFAR-10 with the numbers of Karras et al. 2022 (arXiv:2206.00364, table 7).

    python launch.py --config=configs/edm_cifar.py --workdir=runs/edm_cifar

Hardware: 8 data-centre GPUs, two days. Published: FID 1.97 without labels, 1.79 with,
18 steps of Heun (35 evaluations). The network is their DDPM++: 55,733,891 parameters.
Not theirs: the average of the weights is warmed up as genjax.training.optim does it,
the augmentation reads between pixels without their wavelet filter, and the network sees
its time as this repository's networks do. NCSN++ is model.time_embedding="fourier",
resample_taps=(1, 3, 3, 1) and progressive_input=True. Own figures: not yet measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="edm",
    data=dict(name="cifar10"),
    model=dict(
        backbone="unet",
        channel_multipliers=(2, 2, 2),
        num_res_blocks=4,
        resample="block",
        up_attention="last",
        scale_skips=True,
        dropout=0.13,
    ),
    method=dict(augment_probability=0.12),
    inputs=dict(flip=True),
    optim=dict(warmup_steps=19_531, clip=None, ema_decay=0.99929),
    training=dict(
        num_steps=390_625,
        batch_size=512,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=50_000,
        steps_per_call=10,
    ),
    likelihood=dict(draws=64),
    evaluation=dict(batch_size=500, num_samples=50_000),
)

get_config = with_variants(CONFIG)
