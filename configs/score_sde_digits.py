"""A sub-VP score SDE on scikit-learn's 8x8 digits, trained for its likelihood.

    python launch.py --config=configs/score_sde_digits.py --workdir=runs/sde_digits

Hardware: one CPU core, 5 minutes. Measured: a bound of 81.2 nats an image; a model of
independent pixels gets 106.3.
"""

from genjax.variants import with_variants

TIME = "5 min, 1 core"
CONFIG = dict(
    experiment="score_sde",
    model=dict(
        backbone="unet",
        channels=32,
        channel_multipliers=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(4,),
    ),
    method=dict(
        sde=dict(name="subvp"), weighting="likelihood", start=0.04, pixel_features=True
    ),
    optim=dict(ema_decay=0.995),
    training=dict(num_steps=2500, save_every=500, sample_every=500, eval_every=2500),
    sampler=dict(num_steps=100),
    likelihood=dict(method="bound", draws=64, logsnr=7.8),
    evaluation=dict(batch_size=128, num_samples=1000),
)

get_config = with_variants(CONFIG)
