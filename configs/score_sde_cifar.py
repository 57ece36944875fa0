"""The sub-VP score SDE on CIFAR-10, about as Song et al. 2021 (arXiv:2011.13456).

    python launch.py --config=configs/score_sde_cifar.py --workdir=runs/sde_cifar

Hardware: one data-centre GPU, a week. Published (table 2): 3.02 bits/dim and FID 3.16,
both by the probability-flow ODE, for DDPM++ cont. with sub-VP. Not theirs: this
repository's U-Net stands in for DDPM++. Own figures: not yet measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="score_sde",
    data=dict(name="cifar10"),
    model=dict(backbone="unet", num_res_blocks=4),
    method=dict(sde=dict(name="subvp")),
    inputs=dict(flip=True),
    optim=dict(learning_rate=0.0002, warmup_steps=5000, ema_decay=0.9999),
    training=dict(
        num_steps=1_300_000,
        batch_size=128,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=100_000,
        steps_per_call=10,
    ),
    likelihood=dict(tolerance=1e-05, draws=64),
    evaluation=dict(batch_size=500, num_samples=50_000),
)

get_config = with_variants(CONFIG)
