"""DDPM on MNIST with a small U-Net: digits in under an hour on two CPU cores.

    python launch.py --config=configs/ddpm_mnist.py --workdir=runs/ddpm_mnist

Hardware: 2 CPU cores, 58 minutes of training on a busy machine, 10 of evaluation.
Measured: bound 2.09 bits/dim, frechet_pixels 2.40 (floor 0.33). A model of independent
pixels gets 1.69 bits/dim: samples are what L_simple is good for.
"""

from genjax.variants import with_variants

TIME = "58 min, 2 cores"
CONFIG = dict(
    experiment="ddpm",
    data=dict(name="mnist"),
    model=dict(
        backbone="unet",
        channels=32,
        channel_multipliers=(1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(7,),
        dropout=0.0,
    ),
    optim=dict(decay_steps=3000, ema_decay=0.998),
    training=dict(num_steps=3000, save_every=500, eval_every=3000, steps_per_call=10),
    sampler=dict(name="ddim", num_steps=50),
    likelihood=dict(draws=10),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(
    tiny=dict(method=dict(num_timesteps=20, beta_start=0.005, beta_end=0.5))
)

get_config = with_variants(CONFIG, VARIANTS)
