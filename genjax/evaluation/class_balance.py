"""Whether samples come from all classes, as often as the data do."""

import numpy as np
from jaxtyping import Int


def class_metrics(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " m"], num_classes: int
) -> dict[str, float]:
    """Compares the classes of samples, as a classifier reads them, with the data's.

    class_kl: KL(shares of the classes || their shares among `labels`) in nats: log 2 if
        one half of equal classes is missing; infinite if the data lack a class that is
        read. classes: those that are read at least once.
    """
    share, wanted = (
        np.bincount(rows, minlength=num_classes) / len(rows)
        for rows in (predicted, labels)
    )
    present = share > 0
    with np.errstate(divide="ignore"):
        log_ratio = np.log(share[present]) - np.log(wanted[present])
    return {
        "class_kl": float(np.sum(share[present] * log_ratio)),
        "classes": float(present.sum()),
    }
