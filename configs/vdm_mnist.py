"""VDM on MNIST with a small U-Net, for its likelihood.

    python launch.py --config=configs/vdm_mnist.py --workdir=runs/vdm_mnist

Hardware: one CPU core, 35 minutes. Measured: a bound of 1.107 bits/dim on the first
2,000 test images; a model of independent pixels gets 1.70 there.
"""

from genjax.variants import with_variants

TIME = "35 min, 1 core"
CONFIG = dict(
    experiment="vdm",
    data=dict(name="mnist"),
    model=dict(
        backbone="unet",
        channels=16,
        channel_multipliers=(1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(7,),
        dropout=0.0,
    ),
    method=dict(prediction="levels"),
    optim=dict(decay_steps=3000, ema_decay=0.998),
    training=dict(num_steps=3000, save_every=500, eval_every=3000, steps_per_call=10),
    likelihood=dict(draws=32),
    evaluation=dict(batch_size=128, num_samples=1000),
)

get_config = with_variants(CONFIG)
