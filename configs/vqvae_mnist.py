"""VQ-VAE on MNIST: 16 codes out of 128 for each image.

    python launch.py --config=configs/vqvae_mnist.py --workdir=runs/vqvae_mnist

Hardware: one CPU core, 20 minutes on a busy one. Measured: bound 1.443 bits/dim,
of which the codes cost 0.143; all 128 codes in use, perplexity 112. A model of
independent pixels gets 1.69 bits/dim. The use of codes is counted over 10,000 images,
as many as the test set has. The same networks with a Gaussian posterior:
configs/vqvae_mnist_gaussian.py.
"""

from genjax.variants import with_variants

TIME = "20 min, 1 busy core"
CONFIG = dict(
    experiment="vqvae",
    data=dict(name="mnist"),
    model=dict(channels=(16, 32, 64), num_res_blocks=1),
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
