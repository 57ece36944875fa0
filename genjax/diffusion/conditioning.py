"""What a model may be told beside the noisy example: checks before anything is traced.

The networks are "unet" and "dit", for images, and "mlp", for points; with num_classes >
0 they take labels, of which num_classes itself means "no class"; with num_features > 0
labels are vectors.
"""

import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Int

from genjax.typing import Array, DataSpec, UserError


def check_network(
    spec: DataSpec, *, backbone: str, num_classes: int, guidance_scale: float
) -> None:
    """Raises UserError unless the network fits the data, and the guidance the network.

    guidance_scale: of classifier-free guidance; 1.0 is none.
    """
    is_image = spec.num_levels > 0
    if is_image != (backbone != "mlp"):
        fitting = "'unet' or 'dit'" if is_image else "'mlp'"
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, for which "
            f"model.backbone={backbone!r} is not made: choose {fitting}"
        )
    if num_classes not in (0, spec.num_classes):
        raise UserError(
            f"{spec.name} has {spec.num_classes} classes, not model.num_classes="
            f"{num_classes}: give {spec.num_classes}, or 0 for no labels"
        )
    if num_classes == 0 and guidance_scale != 1.0:
        raise UserError(
            f"sampler.guidance_scale={guidance_scale} needs labels: set "
            f"model.num_classes={spec.num_classes}, or guidance_scale=1.0"
        )


def check_guidance(
    *,
    interval: tuple[float, float],
    rescale: float,
    autoguidance_scale: float,
    guide_step: int,
    num_steps: int,
) -> None:
    """Raises UserError for guidance that cannot be, in the words of the config.

    interval: sampler.guidance_min_t and guidance_max_t. num_steps: of training.
    """
    low, high = interval
    if not 0.0 <= low <= high <= 1.0:
        raise UserError(
            "guidance needs 0 <= sampler.guidance_min_t <= sampler.guidance_max_t <= "
            f"1, not {low} and {high}"
        )
    if not 0.0 <= rescale <= 1.0:
        raise UserError(
            f"sampler.guidance_rescale must be in 0 ... 1, not {rescale}; 0 is none"
        )
    if not 0 <= guide_step < num_steps:
        raise UserError(
            f"method.guide_step={guide_step} must be 0 (no guide) or lie before the "
            f"last step, training.num_steps={num_steps}"
        )
    if autoguidance_scale != 1.0 and guide_step == 0:
        raise UserError(
            f"sampler.autoguidance_scale={autoguidance_scale} needs an early snapshot "
            "of the weights: train with method.guide_step > 0, or set "
            "autoguidance_scale=1.0"
        )


def check_labels(
    label: Int[Array, "..."] | Float[Array, "..."] | None,
    num: int,
    num_classes: int,
    num_features: int = 0,
) -> None:
    """Raises UserError for labels that do not fit; values only where they are known.

    num_features: labels are vectors of so many finite numbers, instead of classes.
    """
    if label is None:
        return
    if num_classes == num_features == 0:
        raise UserError(
            "this model was trained without labels, so it cannot be given one: leave "
            "label out, or train with model.num_classes > 0"
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
