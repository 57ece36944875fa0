"""The continuous baseline of configs/vqvae_mnist.py: a VAE in the same networks.

    python launch.py --config=configs/vqvae_mnist_gaussian.py

Hardware: one CPU core, 30 minutes on a busy one. Measured: bound 1.398 bits/dim,
of which the code costs 0.126; vqvae_mnist gets 1.443.
"""

from genjax.variants import with_variants

TIME = "30 min, 1 busy core"
CONFIG = dict(
    experiment="vqvae",
    data=dict(name="mnist"),
    model=dict(channels=(16, 32, 64), num_res_blocks=1),
    method=dict(bottleneck="gaussian"),
    optim=dict(warmup_steps=100, decay_steps=4000),
    training=dict(num_steps=4000, eval_every=4000, steps_per_call=10),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(channels=(4, 4, 4), num_res_blocks=0, code_dim=2),
        method=dict(num_codes=4, codebook=dict(kmeans_iterations=1, usage_steps=2)),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
