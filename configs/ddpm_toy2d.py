"""DDPM on eight Gaussians on a ring: two dimensions, one minute.

    python launch.py --config=configs/ddpm_toy2d.py --workdir=runs/ddpm_toy2d

Hardware: 2 CPU cores, about a minute. The bound on the log-likelihood lies below the
exact mean, -0.31 nats.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="ddpm",
    data=dict(name="gaussians8"),
    model=dict(backbone="mlp"),
    method=dict(num_timesteps=100, beta_start=0.001, beta_end=0.2),
    inputs=dict(point_scale=1.5),
    training=dict(
        num_steps=20_000,
        batch_size=256,
        log_every=1000,
        save_every=5000,
        sample_every=5000,
        eval_every=20_000,
        steps_per_call=500,
    ),
    sampler=dict(num_steps=100, variance="fixed_small", clip=False),
    likelihood=dict(trace="exact"),
    evaluation=dict(batch_size=1000),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(width=64, depth=2),
        method=dict(num_timesteps=50, beta_start=0.002, beta_end=0.3),
        optim=dict(learning_rate=0.002, ema_decay=0.995),
        training=dict(
            num_steps=4000,
            batch_size=128,
            log_every=1000,
            save_every=2000,
            sample_every=2000,
            eval_every=4000,
            steps_per_call=500,
        ),
        sampler=dict(num_steps=50),
        evaluation=dict(batch_size=100, num_samples=1000, limit=1000),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
