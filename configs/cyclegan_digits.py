"""CycleGAN between scikit-learn's digits and what a known map makes of others of them.

    python launch.py --config=configs/cyclegan_digits.py --workdir=runs/cyclegan_digits

8 x 8 pixels: to try things out, and for tests. 500 digits are domain A, the other 500,
inverted, domain B. Another map: --config.data.known_map=rotated.

Hardware: 1 CPU core, about a minute. The number to expect: `rmse_a_to_b` 0.11, where
the untouched image is 0.85 away from the truth (`rmse_untouched`), and `cycle_l1` 0.05.
"""

from genjax.variants import with_variants

TIME = "1 min, 1 core"
CONFIG = dict(
    experiment="cyclegan",
    data=dict(name="domains", a=dict(name="digits"), known_map="inverted"),
    model=dict(channels=8, num_downs=0, num_blocks=1, d_channels=(16, 32)),  # all of it
    optim=dict(
        learning_rate=0.001, constant_steps=1000, decay_steps=2000, ema_decay=0.99
    ),
    training=dict(num_steps=2000, batch_size=16, eval_every=1000),
    evaluation=dict(batch_size=149, num_samples=0),
)
VARIANTS = dict(
    tiny=dict(
        model=dict(channels=4, num_downs=1, d_channels=(4, 8)),
        method=dict(pool_size=12),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
