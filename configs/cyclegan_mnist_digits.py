"""CycleGAN between MNIST and scikit-learn's digits: two hands, and no pairs.

    python launch.py --config=configs/cyclegan_mnist_digits.py \
        --workdir=runs/cyclegan_mnist_digits
    python launch.py --config=configs/cyclegan_mnist_digits.py \
        --workdir=runs/cyclegan_mnist_digits --mode=translate \
        --extractor=mnist_lenet512_v1

The digits, 8 x 8 pixels of 17 levels, are enlarged to 28 x 28 of 256. There are 1,000
of them to train on, and of MNIST 60,000. The second command prints the share of the
test images whose label a classifier of MNIST still reads after translation, beside what
it reads of images that are not translated.

Hardware: 1 CPU core, 9 minutes (64 ms a step). The number to expect:
`label_preservation` 0.71 from MNIST to the digits and 0.70 back (the same classifier
reads 0.61 of the digits as they are), `cycle_l1` 0.03. Without cycles
(`:no_cycle`) 0.64, 0.50 and 0.11: figures turn into others.
"""

from genjax.variants import with_variants

TIME = "9 min, 1 core"
CONFIG = dict(
    experiment="cyclegan",
    data=dict(
        name="domains", image_size=28, a=dict(name="mnist"), b=dict(name="digits")
    ),
    model=dict(channels=16, num_blocks=3, d_channels=(16, 32, 64)),
    method=dict(identity_weight=5.0),
    optim=dict(constant_steps=4000, decay_steps=8000, ema_decay=0.999),
    training=dict(num_steps=8000, batch_size=8, eval_every=10_000, steps_per_call=25),
    evaluation=dict(batch_size=250, num_samples=0),
)
VARIANTS = dict(
    no_cycle=dict(method=dict(cycle_weight=0.0)),
    tiny=dict(
        model=dict(channels=4, num_downs=1, num_blocks=1, d_channels=(4, 8)),
        method=dict(pool_size=12),
    ),
)

get_config = with_variants(CONFIG, VARIANTS)
