"""A posterior for each of the bundled 8x8 digits, and no encoder.

    python launch.py --config=configs/vae_per_datapoint_digits.py

Measured: 89.8 nats (L_1000), one minute. A model of independent pixels gets 106.3.
"""

from genjax.variants import with_variants

TIME = "56 s, 1 core"
CONFIG = dict(
    experiment="vae_per_datapoint",
    model=dict(backbone="dense", widths=(256, 256), latent_dim=16, activation="relu"),
    method=dict(likelihood="logistic"),
    optim=dict(decay_steps=2000, clip=100.0),
    training=dict(
        num_steps=2000,
        batch_size=100,
        log_every=200,
        eval_every=2000,
        steps_per_call=100,
    ),
    evaluation=dict(num_samples=1000),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(widths=(8,), latent_dim=3),
        method=dict(local_steps=2),
        likelihood=dict(local_steps=3),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
