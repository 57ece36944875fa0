"""A GAN on the line: densities and discriminator as a film, saturation as curves.

    python launch.py --config=configs/gan_1d.py --workdir=runs/gan_1d
    python launch.py --config=configs/gan_1d.py:minimax --workdir=runs/gan_1d_minimax
    python launch.py --config=configs/gan_1d.py --workdir=runs/gan_1d --mode=implicit \
        --beside=runs/gan_1d_minimax

Hardware: one CPU core, 1 to 3 minutes a run as others use it too, and 1 for the
pictures. The numbers to expect, of this loss and of minimax: the norm of the
generator's gradient 10.7 and 0.001 at step 1,000, for the discriminator is sure of its
samples; `wasserstein1` 0.34 and 4.3 at step 4,000, 0.023 and 0.015 in the end; `jsd`
then 0.019 and below 0.001 nats. Minimax comes late, but it comes: Adam divides a small
gradient by its own size.
"""

from genjax.variants import with_variants

TIME = "1 to 3 min, 1 core"
CONFIG = dict(
    experiment="gan",
    data=dict(name="gaussian1d", num_train=50_000),
    model=dict(backbone="mlp", latent_dim=1, g_widths=(32, 32), d_widths=(32, 32)),
    method=dict(
        penalty=dict(weight=0.01),
        critic_steps=4,  # so the discriminator stays near its optimum
        d_learning_rate=0.002,
    ),
    optim=dict(learning_rate=4e-5),  # slow beside the discriminator's
    training=dict(
        num_steps=16_000,
        batch_size=512,
        save_every=400,
        sample_every=8000,
        eval_every=16_000,
        steps_per_call=100,
        keep_every=400,  # the frames of --mode=implicit
    ),
    evaluation=dict(batch_size=500, num_samples=2500),
)
VARIANTS = dict(
    minimax=dict(method=dict(loss="minimax")),
    tiny=dict(
        data=dict(num_train=10000),
        model=dict(g_widths=(8,), d_widths=(16,)),
        method=dict(critic_steps=2),
        optim=dict(learning_rate=0.001),
        training=dict(
            num_steps=400,
            batch_size=128,
            log_every=50,
            save_every=100,
            sample_every=400,
            eval_every=400,
            steps_per_call=50,
            keep_every=100,
        ),
        evaluation=dict(batch_size=100, num_samples=200, limit=200),
    ),
)

get_config = with_variants(CONFIG, VARIANTS)
