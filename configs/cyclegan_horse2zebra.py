"""CycleGAN between photographs of horses and of zebras, as in the paper.

    python launch.py --config=configs/cyclegan_horse2zebra.py \
        --workdir=runs/cyclegan_horse2zebra
    python launch.py --config=configs/cyclegan_horse2zebra.py \
        --workdir=runs/cyclegan_horse2zebra --mode=translate --direction=a_to_b \
        --input=my_horses/

Zhu et al. 2017 (arXiv:1703.10593, appendix 7): 1,067 horses and 1,334 zebras of 256 x
256 pixels, batches of one image each, 100 epochs at 2e-4 and 100 more while it falls to
0. TFDS downloads 111 MiB. Your own two folders of pictures:

    --config.data.a.name=folder --config.data.a.dir=horses
    --config.data.b.name=folder --config.data.b.dir=zebras
    --config.data.a.train_split=None, and so on for a.eval_split and b's two

Hardware: a GPU; 267,000 steps. Not yet run. No number to expect: look at the pictures.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="cyclegan",
    data=dict(
        name="domains",
        image_size=256,
        a=dict(name="cycle_gan/horse2zebra", train_split="trainA", eval_split="testA"),
        b=dict(name="cycle_gan/horse2zebra", train_split="trainB", eval_split="testB"),
    ),
    method=dict(identity_weight=5.0),
    inputs=dict(flip=True, resize=286),
    optim=dict(constant_steps=133_400, decay_steps=266_800),
    training=dict(
        num_steps=266_800,
        batch_size=1,
        save_every=13_340,
        sample_every=13_340,
        eval_every=26_680,
        steps_per_call=20,
    ),
    evaluation=dict(batch_size=10, num_samples=0),
)
VARIANTS = dict(
    tiny=dict(
        data=dict(image_size=32),
        model=dict(channels=4, num_downs=1, num_blocks=1, d_channels=(4, 8)),
        method=dict(pool_size=12),
        inputs=dict(resize=36),
    )
)

get_config = with_variants(CONFIG, VARIANTS)
