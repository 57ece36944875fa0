"""PCA and probabilistic PCA on MNIST, 30 components: one pass over the data.

    python launch.py --config=configs/pca_mnist.py --workdir=runs/pca_mnist

Hardware: 2 CPU cores, under a minute. The numbers are known in closed form: squared
error 13.866 (2 components 43.65, 10 26.71, 64 7.09), log density 394.616 nats.
"""

from genjax.variants import with_variants

TIME = "16 s, 1 core"
CONFIG = dict(
    experiment="pca",
    data=dict(name="mnist"),
    model=dict(num_components=30),
    # one epoch: after it all moments are exact
    training=dict(
        num_steps=60,
        batch_size=1000,
        log_every=60,
        save_every=60,
        sample_every=60,
        eval_every=60,
        steps_per_call=60,
    ),
    evaluation=dict(batch_size=1000, num_samples=1000),
)
VARIANTS = dict(tiny=dict(model=dict(num_components=3)))

get_config = with_variants(CONFIG, VARIANTS)
