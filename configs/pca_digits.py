"""PCA and probabilistic PCA on scikit-learn's 8x8 digits, 10 components.

    python launch.py --config=configs/pca_digits.py --workdir=runs/pca_digits

Hardware: any, seconds. The number is known in closed form: squared error 1.316 (2
components 3.396, 16 0.789).
"""

from genjax.variants import with_variants

TIME = "16 s, 1 core"
CONFIG = dict(
    experiment="pca",
    # one epoch: after it all moments are exact
    training=dict(
        num_steps=10,
        batch_size=100,
        log_every=10,
        save_every=10,
        sample_every=10,
        eval_every=10,
        steps_per_call=10,
    ),
    evaluation=dict(batch_size=128, num_samples=1000),
)
VARIANTS = dict(tiny=dict(model=dict(num_components=3)))

get_config = with_variants(CONFIG, VARIANTS)
