"""The five diffusion experiments, small: what their tests share."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import configs
from genjax.data import toy
from tests.specs import of_points

KEY = jax.random.key(0)
FAMILY = ("ddpm", "edm", "flow_matching", "score_sde", "vdm")
RING = toy.density("gaussians8")
POINTS = of_points("gaussians8", 8)
SMALL = {"model.width": 16, "model.depth": 1}  # beside the tiny config of points


# --- experiments and what they are given ----------------------------------------------


def build(name, spec=POINTS, changes: Mapping[str, Any] | None = None):
    """The experiment of configs/NAME.py:tiny with these fields, "optim.clip", changed.

    name: of an experiment too, whose config is then the one of the data in `spec`.
    changes: "model" is the whole section, in the place of the config's.
    """
    if name in FAMILY:
        name = f"{name}_{'digits' if spec.num_levels else 'toy2d'}"
    changes = dict(changes or {})
    model = tuple(changes.pop("model", {}).items())
    return _built(name, spec, model, tuple(changes.items()))


@functools.cache
def _built(name, spec, model, changes):
    """One object for one question, so that what is compiled for it is found again."""
    stated = _tiny(name)
    if model:
        stated = stated | {"model": dict(model)}
    for field, value in changes:
        *sections, last = field.split(".")
        change = {last: value}
        for section in reversed(sections):
            change = {section: change}
        stated = configs.merged(stated, change)
    return configs.make_experiment(configs.complete(stated), spec)


@functools.cache
def _tiny(name):
    return configs.load(f"configs/{name}.py:tiny").to_dict()


def batch_of(spec, num=6):
    """Of the ring, or pixels that mean nothing."""
    if spec is POINTS:
        image, label = RING.sample_with_mode(jax.random.key(1), num)
    else:
        image = jax.random.randint(KEY, (num, *spec.shape), 0, spec.num_levels)
        image = image.astype(jnp.uint8)
        label = jnp.arange(num) % spec.num_classes
    return {"image": image, "label": label, "index": jnp.arange(num)}


def random_state(experiment, *, seed=0):
    """A state whose arrays are away from zero, so that labels and times show.

    Numbers, like the ends of VDM's path, stay what they are. The weights of the guide
    are others than those of the model.
    """
    state, rng = jax.jit(experiment.init)(KEY), np.random.default_rng(seed)

    def drawn(tree):
        return jax.tree.map(
            lambda p: (
                p + jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype)
                if p.ndim
                else p
            ),
            tree,
        )

    params, early = drawn(state.params), drawn(state.early_params)
    return state._replace(params=params, ema_params=params, early_params=early)


def sampler(experiment):
    """sample(state, key, num, label), compiled."""
    return jax.jit(experiment.sample, static_argnums=2)


# --- learning -------------------------------------------------------------------------


@functools.cache
def train_ring(name, steps=1500, batch_size=128, changes=()):
    """(experiment, state, metrics) after training on eight Gaussians on a ring.

    changes: pairs of a field and its value.
    """
    experiment = build(name, POINTS, dict(changes))
    points, mode = RING.sample_with_mode(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (batch_size,), 0, len(points))
        batch = {"image": points[rows], "label": mode[rows]}
        return experiment.train_step(state, batch, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(steps)))
    return experiment, *run(experiment.init(KEY))


def nearest_mode(samples):
    """(the distance to the nearest center of the ring, which that is)."""
    distance = np.linalg.norm(samples[:, None] - RING.centers[None], axis=-1)
    return distance.min(axis=1), distance.argmin(axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """How a model is trained on the ring with its labels, and what it must know then.

    loss: at most so much of the first loss is left at the end.
    near: the least share of samples, given their class, within 5 sigma of its mode, and
        free: of those given none. Untrained they are 0.02 and 0.13.
    nats: from and to, of log p(x | y) less the exact value; untrained some -5 to -16.
    """

    steps: int = 1500
    batch_size: int = 128
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    loss: float
    near: float = 0.9
    free: float = 0.5
    nats: tuple[float, float]


EXPECTED = {
    "ddpm": Expected(changes={"method.variance": "learned"}, loss=0.3, nats=(-2, 0)),
    "edm": Expected(loss=0.6, nats=(-0.5, 0.5)),
    "flow_matching": Expected(steps=1200, batch_size=64, loss=0.6, nats=(-0.5, 0.5)),
    "score_sde": Expected(
        changes={
            "method.weighting": "likelihood",
            "method.start": 1e-3,
            "method.classifier_width": 64,
        },
        loss=0.5,
        nats=(-0.5, 0.5),
    ),
    "vdm": Expected(loss=0.3, free=0.8, nats=(-0.5, 0.1)),
}


def trained(name, changes: Mapping[str, Any] | None = None):
    """(experiment, state, metrics) as in EXPECTED; changes: of the experiment only."""
    expected = EXPECTED[name]
    options = {"model.num_classes": 8, "inputs.label_dropout": 0.3} | expected.changes
    experiment, state, metrics = train_ring(
        name, expected.steps, expected.batch_size, tuple(options.items())
    )
    if changes:
        experiment = build(name, POINTS, options | dict(changes))
    return experiment, state, metrics


def learns_eight_gaussians(name):
    """Asserts what EXPECTED says of the loss, the samples and the likelihood."""
    expected = EXPECTED[name]
    experiment, state, metrics = trained(name)
    assert metrics["loss"][-100:].mean() < expected.loss * metrics["loss"][:20].mean()

    label = jnp.arange(400) % 8
    distance, mode = nearest_mode(sampler(experiment)(state, KEY, 400, label))
    near = np.mean((mode == label) & (distance < 5 * RING.sigma))

    # told no class, which is guidance 0
    untold, *_ = trained(name, {"sampler.guidance.scale": 0.0})
    distance, mode = nearest_mode(sampler(untold)(state, KEY, 1000))
    free = distance < 5 * RING.sigma
    share = np.bincount(mode[free], minlength=8) / free.sum()

    points, mode = RING.sample_with_mode(jax.random.key(1), 500)
    batch = {"image": points, "label": mode}
    value = jax.jit(experiment.likelihood.log_prob)(state, batch, KEY).mean()
    # given the class, whose share of the mixture is 1/8
    away = value - RING.log_prob(points).mean() - np.log(8)
    print(f"{near=:.3f} free={free.mean():.3f} {share.min()=:.3f} {away=:.3f}")
    assert near > expected.near
    assert free.mean() > expected.free
    assert share.min() > 0.06  # of 0.125
    assert expected.nats[0] < away < expected.nats[1]
