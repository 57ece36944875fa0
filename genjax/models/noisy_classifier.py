"""A classifier of noisy examples, for guidance: log p_t(y | x_t)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.models.backbone import check_builds
from genjax.models.mlp import TimeMLP
from genjax.typing import Array, DataSpec, Key, Net, Params, UserError


class NoisyClassifier(NamedTuple):
    """init: (key) -> its params, which params["classifier"] is to hold.

    of: (params) -> log_probs, and log_probs(x, t) -> (B, classes), in nats.
    """

    init: Callable[[Key], Params]
    of: Callable[[Params], Net]


def make_noisy_classifier(
    spec: DataSpec, width: int, see: Callable[[Array, Array], Array]
) -> NoisyClassifier:
    """A plain MLP, so for images of few pixels. see: (x, t) -> its input.

    Raises UserError for data without classes, and a width that cannot be.
    """
    if not spec.num_classes:
        raise UserError(
            f"{spec.name} has no classes to classify: set "
            "config.method.classifier_width=0"
        )
    module = TimeMLP(spec.num_classes, width=width)

    def init(key: Key) -> Params:
        x = jnp.zeros((1, *spec.shape)).reshape(1, -1)
        return module.init(key, x, jnp.ones(1))["params"]

    check_builds(init, spec, "method.classifier_width")

    def of(params: Params) -> Net:
        variables = {"params": params["classifier"]}

        def log_probs(x: Array, t: Array) -> Array:
            out = module.apply(variables, see(x, t).reshape(len(x), -1), t)
            assert isinstance(out, jax.Array)
            return jax.nn.log_softmax(out)

        return log_probs

    return NoisyClassifier(init, of)


def class_error(
    log_probs: Float[Array, "b k"], label: Int[Array, " b"]
) -> Float[Array, " b"]:
    """-log p(label) of each example, in nats: the cross-entropy."""
    return -jnp.take_along_axis(log_probs, label[:, None], axis=1)[:, 0]
