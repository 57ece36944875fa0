"""CycleGAN between MNIST and inverted MNIST: a map that is known, but not in training.

    python launch.py --config=configs/cyclegan_mnist_inverted.py \
        --workdir=runs/cyclegan_inverted
    python launch.py --config=configs/cyclegan_mnist_inverted.py \
        --workdir=runs/cyclegan_inverted --mode=translate \
        --extractor=mnist_lenet512_v1

30,000 images are domain A, the other 30,000, inverted, domain B: no image is in both.
The second command prints the share of the test images whose label a classifier still
reads after translation. Others: `--config=configs/cyclegan_mnist_inverted.py:no_cycle`
and `:identity`; another map: --config.data.known_map=rotated, or edges.

Hardware: 1 CPU core, 15 to 30 minutes (43 ms a step where nobody else uses it). The
number to expect: `label_preservation` 0.994 both ways, as often as the classifier reads
the images themselves, `cycle_l1` 0.009, `rmse` 0.028 (untouched 0.962). The identity
loss asks to keep the colours, and so should hurt here; not tried at this size.
"""

from genjax.variants import with_variants

TIME = "15 min, 1 core"
CONFIG = dict(
    experiment="cyclegan",
    data=dict(name="domains", a=dict(name="mnist"), known_map="inverted"),
    model=dict(
        channels=16, num_blocks=3, d_channels=(16, 32, 64)
    ),  # patches of 34 x 34: all of it
    optim=dict(constant_steps=10_000, decay_steps=20_000, ema_decay=0.999),
    training=dict(num_steps=20_000, batch_size=8, eval_every=10_000, steps_per_call=25),
    evaluation=dict(batch_size=250, num_samples=0),
)
VARIANTS = dict(
    no_cycle=dict(method=dict(cycle_weight=0.0)),
    identity=dict(method=dict(identity_weight=5.0)),
    tiny=dict(
        model=dict(channels=4, num_downs=1, num_blocks=1, d_channels=(4, 8)),
        method=dict(pool_size=12),
    ),
)

get_config = with_variants(CONFIG, VARIANTS)
