"""Labels that condition a model: 0 ... num_classes - 1, or none.

num_classes itself is the null label, "no class"; a model with num_classes = 0 has none.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Int

from genjax.typing import Array, Batch, Key, UserError


def of_batch(batch: Batch, num_classes: int) -> Array | None:
    """The labels of a batch, None for a model without."""
    return batch["label"] if num_classes else None


def hide(
    key: Key, label: Array | None, *, probability: float, null: int
) -> Array | None:
    """The labels, some replaced by the null label, to train unconditionally too."""
    if label is None:
        return None
    return jnp.where(jax.random.bernoulli(key, probability, label.shape), null, label)


def asked_for(
    key: Key, label: Array | None, num: int, num_classes: int
) -> Array | None:
    """Checked labels (num,): those given, or else classes drawn uniformly.

    Raises UserError for labels that the model does not know.
    """
    check_labels(label, num, num_classes)
    if num_classes and label is None:
        return jax.random.randint(key, (num,), 0, num_classes)
    return label


def check_labels(
    label: Int[Array, "..."] | Float[Array, "..."] | None,
    num: int,
    num_classes: int,
    num_features: int = 0,
) -> None:
    """Raises UserError for labels that do not fit; values only where they are known.

    num_features: labels are vectors of num_features finite numbers, not classes.
    """
    if label is None:
        return
    if num_classes == num_features == 0:
        raise UserError(
            "this model was trained without labels, so it cannot be given any: leave "
            "them out, or train with model.num_classes > 0"
        )
    shape = (num, num_features) if num_features else (num,)
    if label.shape != shape:
        raise UserError(f"label must have shape {shape}, not {label.shape}")
    if isinstance(label, Tracer):
        return
    values = np.asarray(label)
    if num_features:
        if not np.isfinite(values).all():
            raise UserError("labels must be finite numbers, and some are not")
        return
    if not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"labels are classes, so whole numbers, not {values.dtype}")
    wrong = values[(values < 0) | (values >= num_classes)]
    if len(wrong):
        raise UserError(
            f"labels go from 0 to {num_classes - 1}, and {wrong[0]} does not lie there"
        )
