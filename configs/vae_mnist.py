"""One-layer VAE on dynamically binarised MNIST: the first row of IWAE's Table 1.

    python launch.py --config=configs/vae_mnist.py --workdir=runs/vae_mnist

Published (Burda et al. 2016, L_5000 over the test set): 86.76 nats after 3,280 epochs.
Measured after 1,000 epochs (600,000 steps, 47 minutes on one CPU core): 87.05, with 18
active units. A model of independent pixels gets 205.8.

Variants :iwae and :dreg, with k = 5. After 67 epochs each, over three seeds: 92.3 for
k = 1, 90.7 for IWAE, 90.2 for DReG. Variant :gaps measures what the encoder loses.
"""

from genjax.variants import with_variants

TIME = "47 min, 1 core"
CONFIG = dict(
    experiment="vae",
    data=dict(name="mnist"),
    model=dict(backbone="dense", latent_dim=50),
    optim=dict(decay_steps=600_000),
    training=dict(
        num_steps=600_000,
        batch_size=100,
        log_every=6000,
        save_every=60_000,
        sample_every=150_000,
        eval_every=600_000,
        steps_per_call=500,
    ),
    likelihood=dict(importance_samples=5000),
)
VARIANTS = dict(
    iwae=dict(method=dict(objective="iwae", num_samples=5)),
    dreg=dict(method=dict(objective="dreg", num_samples=5)),
    gaps=dict(likelihood=dict(refine_steps=500)),
    tiny=dict(model=dict(widths=(8,), latent_dim=3)),
)

get_config = with_variants(CONFIG, VARIANTS)
