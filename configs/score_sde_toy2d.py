"""A score SDE, variance-preserving, on eight Gaussians on a ring.

    python launch.py --config=configs/score_sde_toy2d.py --workdir=runs/sde_toy2d

Hardware: one CPU core, 2.5 minutes. Measured: all 8 modes, 0.342 nats a held-out point,
where the density itself has 0.314. For the other SDEs add
--config.method.sde.name=subvp or ve.
"""

from genjax.variants import with_variants

TIME = "2.5 min, 1 core"
CONFIG = dict(
    experiment="score_sde",
    data=dict(name="gaussians8"),
    model=dict(backbone="mlp"),
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
    sampler=dict(num_steps=500),
    likelihood=dict(trace="exact", draws=64, logsnr=11.0),
    evaluation=dict(batch_size=1000),
)
VARIANTS = dict(tiny=dict(sampler=dict(num_steps=100)))

get_config = with_variants(CONFIG, VARIANTS)
