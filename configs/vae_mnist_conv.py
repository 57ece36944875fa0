"""A convolutional VAE of 8-bit MNIST with a discretised-logistic likelihood.

    python launch.py --config=configs/vae_mnist_conv.py

Not yet trained as a whole. A model of independent pixels gets 1.690 bits/dim.
"""

from genjax.variants import with_variants

CONFIG = dict(
    experiment="vae",
    data=dict(name="mnist"),
    model=dict(backbone="conv", widths=(32, 64), latent_dim=32, activation="relu"),
    method=dict(likelihood="logistic", beta_warmup_steps=500),
    optim=dict(decay_steps=6000, clip=100.0),
    training=dict(num_steps=6000, batch_size=100, eval_every=6000, steps_per_call=10),
    likelihood=dict(importance_samples=100),
)
VARIANTS = dict(tiny=dict(model=dict(widths=(4,), latent_dim=3)))

get_config = with_variants(CONFIG, VARIANTS)
