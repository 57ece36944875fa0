"""Flow matching with a transformer on scikit-learn's 8x8 digits, class-conditional.

    python launch.py --config=configs/flow_matching_digits_dit.py --workdir=runs/fm_dit

1.3 M parameters. Hardware: one CPU core, 5 minutes. Measured: `frechet_pixels` 0.127
and at most 94.0 nats an image given its label; the U-Net of flow_matching_digits has
0.079 and 89.7 in as many steps.
"""

from genjax.variants import with_variants

TIME = "5 min, 1 core"
CONFIG = dict(
    experiment="flow_matching",
    model=dict(
        backbone="dit", width=128, depth=4, num_heads=4, dropout=0.1, num_classes=None
    ),
    method=dict(times=dict(distribution="logit_normal")),
    optim=dict(ema_decay=0.995),
    training=dict(num_steps=2500, save_every=500, sample_every=500, eval_every=2500),
    sampler=dict(guidance=dict(scale=1.5)),
    likelihood=dict(draws=64, logsnr=7.8),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(
    tiny=dict(model=dict(patch=4, width=16, depth=1, num_heads=2, dropout=0.0))
)

get_config = with_variants(CONFIG, VARIANTS)
