"""Class-conditional flow matching on MNIST with a small U-Net and guidance.

    python launch.py --config=configs/flow_matching_mnist.py --workdir=runs/fm_mnist

Hardware: one CPU core, 47 minutes. Measured: an independent classifier reads 99.3 % of
the samples as asked at guidance 1.5, 99.9 % at 2, and 95.2 % without guidance. Its
bound, 2.88 bits/dim, is worse than that of independent pixels: these times of training
are for samples, and leave out the least noise.
"""

from genjax.variants import with_variants

TIME = "47 min, 1 core"
CONFIG = dict(
    experiment="flow_matching",
    data=dict(name="mnist"),
    model=dict(
        backbone="unet",
        channels=32,
        channel_multipliers=(1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(7,),
        dropout=0.0,
        num_classes=None,
    ),
    method=dict(times=dict(distribution="logit_normal")),
    optim=dict(decay_steps=3000, ema_decay=0.998),
    training=dict(num_steps=3000, save_every=500, eval_every=3000, steps_per_call=10),
    sampler=dict(guidance=dict(scale=2.0)),
    likelihood=dict(method="bound"),
    evaluation=dict(batch_size=128, num_samples=1000),
)

get_config = with_variants(CONFIG)
