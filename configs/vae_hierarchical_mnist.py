"""Two layers of codes on dynamically binarised MNIST: IWAE's Table 1, lower half.

    python launch.py --config=configs/vae_hierarchical_mnist.py

Published (Burda et al. 2016, L_5000 over the test set), after 3,280 epochs: 85.33 nats
for k = 1; 83.89 for k = 5 (variant :iwae5) and 82.90 for k = 50 (:iwae50). Not yet
trained here.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="vae_hierarchical",
    data=dict(name="mnist"),
    optim=dict(decay_steps=300_000),
    training=dict(
        num_steps=300_000,
        batch_size=100,
        log_every=3000,
        save_every=30_000,
        sample_every=60_000,
        eval_every=300_000,
        steps_per_call=500,
    ),
    likelihood=dict(importance_samples=5000),
)
VARIANTS = dict(
    iwae5=dict(method=dict(objective="iwae", num_samples=5)),
    iwae50=dict(method=dict(objective="iwae", num_samples=50)),
    tiny=dict(model=dict(widths=(8,), top_widths=(6,), latent_dim=4, top_latent_dim=3)),
)

get_config = with_variants(CONFIG, VARIANTS)
