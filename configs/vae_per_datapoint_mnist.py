"""A posterior for each of MNIST's 60,000 images, and no encoder.

    python launch.py --config=configs/vae_per_datapoint_mnist.py

Compare with configs/vae_mnist.py, whose decoder this is: 60,000 x (50 + 50) numbers
stand against the 217,300 weights of its encoder. Measured after 30 epochs (9,000 steps,
9 minutes on a busy core): 116 nats, far from converged. 100 epochs were not run.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="vae_per_datapoint",
    data=dict(name="mnist"),
    model=dict(backbone="dense", latent_dim=50),
    optim=dict(decay_steps=30_000),
    training=dict(
        num_steps=30_000,
        batch_size=200,
        log_every=300,
        save_every=3000,
        sample_every=6000,
        eval_every=30_000,
        steps_per_call=100,
    ),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(widths=(8,), latent_dim=3),
        method=dict(local_steps=2),
        likelihood=dict(local_steps=3),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
