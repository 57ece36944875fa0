"""DDPM on CIFAR-10, as Ho et al. 2020 (arXiv:2006.11239) trained it.

    python launch.py --config=configs/ddpm_cifar.py --workdir=runs/ddpm_cifar

Hardware: one data-centre GPU, days (add --config.model.dtype=bfloat16 for speed).
Published for this recipe: FID 3.17 and <= 3.75 bits/dim (NLL of the test set), with the
moving average of the weights, 1000 ancestral steps and "fixed_large". Own figures and
time: not yet measured.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="ddpm",
    data=dict(name="cifar10"),
    model=dict(backbone="unet"),
    inputs=dict(flip=True),
    optim=dict(learning_rate=0.0002, warmup_steps=5000, ema_decay=0.9999),
    training=dict(
        num_steps=800_000,
        batch_size=128,
        log_every=500,
        save_every=10_000,
        sample_every=10_000,
        eval_every=50_000,
        steps_per_call=10,
    ),
    evaluation=dict(batch_size=500, num_samples=50_000),
)
VARIANTS = dict(
    tiny=dict(method=dict(num_timesteps=20, beta_start=0.005, beta_end=0.5))
)

get_config = with_variants(CONFIG, VARIANTS)
