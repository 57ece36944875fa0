"""A GAN on the grid of 25 Gaussians: which modes does it find, and how evenly?

    python launch.py --config=configs/gan_grid25.py --workdir=runs/gan_grid25

The protocol is PacGAN's (Lin et al. 2018, arXiv:1712.04086), z in two dimensions and
2,500 samples to count, but small: four layers of 64 units in the generator and 20,000
steps, where it has 400 units and 400,000 steps. The loss is R3GAN's. Others:
`--config=configs/gan_grid25.py:plain`, `:pacgan4` and `:wgan_gp`.

benchmarks/gan_modes.py trains all of them over 10 seeds. Hardware: one CPU core, under
a minute. The number to expect: 25 `modes`, `high_quality` 0.957 +- 0.009 (exact
samples: 0.988) and `mode_kl` 0.0066 +- 0.0019 (exact samples: 0.0048); the plain GAN
finds 18.5 +- 4.3 modes, PacGAN4 24.7 +- 0.5. This very command gave 25, 0.937, 0.0074.

The generator's activation matters most: after 8,000 steps of 256 with networks of 3 x
64, relu gave 25 modes with 0.92 of high quality, leaky_relu and tanh 19 to 24 with 0.39
to 0.62. A penalty held at 0.01 smooths the Gaussians away (0.89); one that falls to
0.0001 is weak too early, and the modes are then less even.
"""

from genjax.variants import with_variants

TIME = "1 min, 1 core"
CONFIG = dict(
    experiment="gan",
    data=dict(name="gaussians25", num_train=100_000),
    model=dict(
        backbone="mlp",
        latent_dim=2,
        g_widths=(64, 64, 64, 64),
        d_widths=(64, 64, 64),
        activation="relu",  # its flat parts are what a mode is made of
    ),
    method=dict(
        loss="relativistic",
        penalty=dict(name="r1_r2", weight=0.01, weight_end=0.0003, decay_steps=20_000),
    ),
    inputs=dict(point_scale=2.8),
    optim=dict(learning_rate=0.002, b2=0.99, decay_steps=20_000),
    training=dict(
        num_steps=20_000,
        batch_size=128,
        log_every=1000,
        save_every=5000,
        sample_every=5000,
        steps_per_call=1000,
    ),
    evaluation=dict(batch_size=500, num_samples=2500),
)
PLAIN = dict(loss="non_saturating", penalty=dict(name="none"))
VARIANTS = dict(
    plain=dict(method=PLAIN),
    pacgan4=dict(
        # packs live in 8 dimensions: a wider discriminator, and more of them at a time
        model=dict(d_widths=(128, 128, 128)),
        method=dict(**PLAIN, packing=4),
        training=dict(batch_size=1024),
    ),
    wgan_gp=dict(
        method=dict(
            loss="wasserstein",
            penalty=dict(name="wgan_gp", weight=0.1),
            critic_steps=5,
        ),
        optim=dict(learning_rate=0.001),
        training=dict(batch_size=640),
    ),
    tiny=dict(
        data=dict(num_train=10000),
        model=dict(g_widths=(64, 64), d_widths=(64, 64), activation="leaky_relu"),
        method=dict(critic_steps=2, penalty=dict(weight_end=None, decay_steps=None)),
        optim=dict(learning_rate=0.001, b1=0.8, b2=0.999, decay_steps=None),
        training=dict(
            num_steps=2000,
            batch_size=128,
            log_every=500,
            save_every=1000,
            sample_every=1000,
            eval_every=2000,
            steps_per_call=1000,
        ),
        evaluation=dict(batch_size=100, num_samples=1000, limit=1000),
    ),
)

get_config = with_variants(CONFIG, VARIANTS)
