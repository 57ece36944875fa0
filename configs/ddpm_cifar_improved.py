"""Improved DDPM on CIFAR-10 (Nichol & Dhariwal 2021, arXiv:2102.09672).

    python launch.py --config=configs/ddpm_cifar_improved.py --workdir=runs/improved

Hardware: one data-centre GPU, days. The paper's recipe for L_hybrid: cosine schedule,
4000 steps, learned variances, 500,000 updates; it reports 3.17 bits/dim and FID 3.19.
Unlike theirs, the network is conditioned on the time by a shift, not by a scale and a
shift. Own figures: not yet measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="ddpm",
    data=dict(name="cifar10"),
    model=dict(
        backbone="unet",
        num_res_blocks=3,
        attention_resolutions=(16, 8),
        num_heads=4,
        dropout=0.3,
    ),
    method=dict(num_timesteps=4000, schedule="cosine", variance="learned"),
    inputs=dict(flip=True),
    optim=dict(learning_rate=0.0001, warmup_steps=0, clip=None, ema_decay=0.9999),
    training=dict(
        num_steps=500_000,
        batch_size=128,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=50_000,
        steps_per_call=10,
    ),
    sampler=dict(num_steps=4000, variance="learned"),
    evaluation=dict(batch_size=500, num_samples=50_000),
)
VARIANTS = dict(tiny=dict(method=dict(num_timesteps=20)))

get_config = with_variants(CONFIG, VARIANTS)
