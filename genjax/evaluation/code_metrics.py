"""Scores of a code: what it keeps of an image, and of its class.

Arrays in, numbers out. Codes are (n, D), one row an image, from any model; pixels are
(n, P), flattened and scaled to [0, 1]. A squared error is summed over the pixels of an
image, the unit of Hinton & Salakhutdinov 2006.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016 (arXiv:1509.00519), section 5.2
# A full covariance of D numbers has D^2 / 2 parameters in each of the components.
MAX_FULL_COVARIANCE = 64

Codes = Float[np.ndarray, "n d"]
Labels = Int[np.ndarray, " n"]
TrainCodes = Float[np.ndarray, "m d"]
TrainLabels = Int[np.ndarray, " m"]
Pixels = Float[np.ndarray, "n p"]
RealPixels = Float[np.ndarray, "m p"]


def to_pixels(images: UInt8[np.ndarray, "n h w c"], num_levels: int) -> Pixels:
    """The images flattened, float32 in [0, 1]."""
    flat = images.reshape(len(images), -1)
    return flat.astype(np.float32) / np.float32(num_levels - 1)


def squared_errors(pixels: Pixels, others: Pixels) -> Float[np.ndarray, " n"]:
    """|x - y|^2 of each image, summed over its pixels, in float64."""
    return np.square(pixels.astype(np.float64) - others).sum(axis=1)


class PrincipalComponents(NamedTuple):
    """The directions of largest variance, the largest first."""

    mean: Float[np.ndarray, " p"]
    components: Float[np.ndarray, "k p"]

    def encode(self, pixels: Pixels, dim: int) -> Codes:
        """The first `dim` components of each image."""
        return (pixels - self.mean) @ self.components[:dim].T

    def decode(self, codes: Codes) -> Pixels:
        """The images of codes, by as many components as a code has; not clipped."""
        return codes @ self.components[: codes.shape[1]] + self.mean


def principal_components(pixels: Pixels, num: int) -> PrincipalComponents:
    """The first `num` principal components, by scikit-learn, from the covariance.

    Raises ValueError unless num <= min(n, p).
    """
    from sklearn.decomposition import PCA

    # Exact, and faster than the other solvers where n is much above p.
    fitted = PCA(num, svd_solver="covariance_eigh").fit(pixels)
    return PrincipalComponents(np.asarray(fitted.mean_), np.asarray(fitted.components_))


def active_units(codes: Codes) -> int:
    """In how many dimensions the codes vary: Var_x(E[z|x]) > 0.01.

    Burda et al. 2016, section 5.2. For a code of another scale than N(0, 1) the
    threshold means little.
    """
    return int((codes.astype(np.float64).var(axis=0) > ACTIVE_VARIANCE).sum())


# What the code knows of the class


def nearest_neighbour_accuracy(
    train_codes: TrainCodes, train_labels: TrainLabels, codes: Codes, labels: Labels
) -> float:
    """How often the nearest training code (Euclidean) is of the right class."""
    nearest = _nearest(codes, train_codes)[1]
    return float(np.mean(train_labels[nearest] == labels))


def linear_accuracy(
    train_codes: TrainCodes, train_labels: TrainLabels, codes: Codes, labels: Labels
) -> float:
    """Accuracy of a logistic regression on the standardised code.

    scikit-learn's, with its penalty C = 1. Raises ValueError for a single class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    # float64: lbfgs does not get below its tolerance in float32.
    model.fit(train_codes.astype(np.float64), train_labels)
    return float(model.score(codes.astype(np.float64), labels))


def cluster_metrics(codes: Codes, labels: Labels, num_clusters: int) -> dict:
    """k-means and a Gaussian mixture of the codes, against the classes.

    kmeans_purity, kmeans_nmi, mixture_purity, mixture_nmi: `purity`, and normalised
    mutual information (arithmetic mean, scikit-learn). k-means is the best of 10
    starts; the mixture has full covariances up to MAX_FULL_COVARIANCE dimensions and
    diagonal ones above. The random state is fixed.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.mixture import GaussianMixture

    codes = codes.astype(np.float64)
    starts: Any = 10  # scikit-learn's stubs know its other value only, "auto"
    mixture = GaussianMixture(
        num_clusters,
        covariance_type=covariance_type(codes.shape[1]),
        max_iter=500,
        random_state=0,
    )
    found = {
        "kmeans": KMeans(num_clusters, n_init=starts, random_state=0).fit_predict(
            codes
        ),
        "mixture": mixture.fit_predict(codes),
    }
    metrics = {}
    for name, clusters in found.items():
        metrics[f"{name}_purity"] = purity(clusters, labels)
        metrics[f"{name}_nmi"] = float(normalized_mutual_info_score(labels, clusters))
    return metrics


def covariance_type(dim: int) -> str:
    """What the mixture of `cluster_metrics` takes for codes of `dim` numbers."""
    return "full" if dim <= MAX_FULL_COVARIANCE else "diag"


def purity(clusters: Labels, labels: Labels) -> float:
    """The share of examples that are of the commonest class of their cluster."""
    from sklearn.metrics.cluster import contingency_matrix

    return float(contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels))


# How smooth the decoder is between the codes


def nearest_distances(pixels: Pixels, real: RealPixels) -> Float[np.ndarray, " n"]:
    """The root of the squared error of each image to the nearest real one."""
    return _nearest(pixels, real)[0].astype(np.float64)


def _nearest(
    queries: Float[np.ndarray, "n d"], points: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(distances, rows) of the nearest point; in blocks, summed in float64."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points)
    distances, rows = index.kneighbors(queries)
    return distances[:, 0], rows[:, 0]
