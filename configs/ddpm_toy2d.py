"""DDPM on eight Gaussians on a ring: two dimensions, one minute.

    python launch.py --config=configs/ddpm_toy2d.py --workdir=runs/ddpm_toy2d

Hardware: 2 CPU cores, about a minute. The bound on the log-likelihood lies below the
exact mean, -0.31 nats.
"""

from genjax.variants import with_variants

TIME = "1 min, 2 cores"
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
        method=dict(num_timesteps=50, beta_start=0.002, beta_end=0.3),
        sampler=dict(num_steps=50),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
