"""VQ-VAE on scikit-learn's 8x8 digits: 4 codes out of 32 for each image.

    python launch.py --config=configs/vqvae_digits.py --workdir=runs/vqvae_digits

Hardware: one CPU core, 20 seconds when it is free. Measured: bound 96.6 nats an image
on the test rows, where a model of independent pixels gets 106.3; all 32 codes in use.
More steps overfit.
"""

from genjax.variants import with_variants

TIME = "20 s, 1 core"
CONFIG = dict(
    experiment="vqvae",
    model=dict(channels=(16, 32), num_res_blocks=1),
    # six steps see 384 images, about the test set
    method=dict(num_codes=32, levels=(4, 3, 3), codebook=dict(usage_steps=6)),
    optim=dict(warmup_steps=100, decay_steps=1000),
    training=dict(
        num_steps=1000,
        save_every=500,
        sample_every=500,
        eval_every=1000,
        steps_per_call=10,
    ),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(channels=(4,), num_res_blocks=0, code_dim=2),
        method=dict(num_codes=4, codebook=dict(kmeans_iterations=1, usage_steps=2)),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
