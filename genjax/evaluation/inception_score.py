"""How sure a classifier is of each sample, and how varied its answers are.

With the Inception network of 2015 this is the Inception Score (Salimans et al. 2016,
arXiv:1606.03498, section 4). Of another classifier it is another number.
"""

import numpy as np
import scipy.special
from jaxtyping import Float

SPLITS = 10


def inception_score(
    logits: Float[np.ndarray, "n classes"],
    *,
    splits: int = SPLITS,
    shuffle_seed: int | None = 2020,
) -> tuple[float, float]:
    """Of exp E KL(p(y|x) || p(y)), the mean and standard deviation (ddof 0) of splits.

    From 1 to the number of classes. Split i takes the rows from i * n // splits on,
    and p(y) is the mean within it, so that the score grows with the rows of a split.

    shuffle_seed: the rows are first permuted, as torch-fidelity does; None leaves them
        in order, as the authors' code does.
    Raises ValueError for fewer rows than splits.
    """
    n = len(logits)
    if not 1 <= splits <= n:
        raise ValueError(f"{n} rows cannot be cut into {splits} splits")
    logits = logits.astype(np.float64)
    if shuffle_seed is not None:
        logits = logits[np.random.RandomState(shuffle_seed).permutation(n)]
    scores = []
    for i in range(splits):
        part = logits[i * n // splits : (i + 1) * n // splits]
        log_p = scipy.special.log_softmax(part, axis=1)
        log_mean = scipy.special.logsumexp(log_p, axis=0) - np.log(len(part))
        divergence = (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))
