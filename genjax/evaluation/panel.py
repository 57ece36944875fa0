"""Every comparison of samples with the data, each with its floor.

A space is what the rows are: pixels, points, or the features of an extractor. Its name
ends the names of the metrics.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from genjax.evaluation import fd_infinity, inception_score, kid, memorization
from genjax.evaluation import prdc as precision
from genjax.evaluation.class_balance import class_metrics
from genjax.evaluation.frechet import (
    SampleMoments,
    frechet_distance,
    frechet_from,
    moments_of,
)
from genjax.evaluation.kept import Keep, code
from genjax.evaluation.neighbors import Neighbors, nearest, spread
from genjax.evaluation.summary import Summary
from genjax.typing import DataSpec, Stopped

MIN_ROWS = 50  # of each set; below that most of these numbers say nothing
MAX_PRDC, MAX_COPIES = 10_000, 2000  # rows that are compared with all others


@dataclasses.dataclass(frozen=True)
class Space:
    """The training and the test split as rows, and how samples are compared to them.

    name: "pixels", "points" or the extractor's.
    reference, test: (n, d), bytes or floats.
    moments: of the reference, in units; None leaves the Frechet distances out.
    unit: of a 1 in the rows: 1 / 255 for bytes that stand for [0, 1].
    """

    name: str
    reference: np.ndarray
    test: np.ndarray
    moments: SampleMoments | None
    unit: float = 1.0

    def scores(self, samples: np.ndarray) -> dict[str, float]:
        """The scores of rows (n >= MIN_ROWS, d), against reference and test."""
        return self._named(
            self._scores(samples)
            | self._copying(samples, self.test, cells_for(len(samples)))
            | self._to_test(samples, self.test)
        )

    def floors(self, count: int) -> dict[str, float]:
        """The scores of `count` rows of the test split, or all that it has.

        For data_copying and the distance to the test split, one half of them stands for
        samples, the other for the test split.
        """
        rows = self.test[spread(len(self.test), count)]
        return self._named(
            self._scores(rows)
            | self._copying(rows[::2], rows[1::2], cells_for(count))
            | self._to_test(rows[::2], rows[1::2])
        )

    def neighbors(self, samples: np.ndarray, k: int) -> Neighbors:
        """Neighbours in the reference, of at most MAX_COPIES samples, evenly spread."""
        return nearest(samples[spread(len(samples), MAX_COPIES)], self.reference, k)

    def _copying(
        self, samples: np.ndarray, test: np.ndarray, cells: int
    ) -> dict[str, float]:
        z = memorization.data_copying(samples, test, self.reference, cells=cells)
        return {"data_copying": z}

    def _to_test(self, samples: np.ndarray, test: np.ndarray) -> dict[str, float]:
        if self.moments is None:
            return {}
        a, b = (moments_of(rows, slice(None)) for rows in (samples, test))
        distance = frechet_distance(a.mean, a.cov, b.mean, b.cov)
        return {"frechet_test": distance * self.unit**2}

    def _scores(self, samples: np.ndarray) -> dict[str, float]:
        gamma = self.unit**2 / samples.shape[1]
        kernel = kid.kernel_distance(self.reference, samples, gamma=gamma)
        found = self.neighbors(samples, 1)
        some = samples[spread(len(samples), MAX_PRDC)]
        as_many = self.reference[spread(len(self.reference), len(some))]
        return {
            **self._frechet(samples),
            "kid": kernel.mean,
            **({} if kernel.std is None else {"kid_std": kernel.std}),
            **precision.prdc(as_many, some),
            "nearest_training": float(np.median(found.distance)) * self.unit,
            "authpct": memorization.authenticity(found, self.reference),
            "nearest_other_ratio": memorization.nearest_other_ratio(some, as_many),
        }

    def _frechet(self, samples: np.ndarray) -> dict[str, float]:
        if self.moments is None:
            return {}
        mean, std = fd_infinity.over_parts(self._distance, samples)
        infinite = fd_infinity.fd_infinity(self._distance, samples)
        found = {"infinity": infinite, "parts_mean": mean, "parts_std": std}
        # A squared distance, of rows that count in units.
        return {f"frechet_{k}": v * self.unit**2 for k, v in found.items()}

    @functools.cached_property
    def _distance(self) -> Callable[[np.ndarray, np.ndarray], float]:
        assert self.moments is not None
        mean, cov = self.moments.mean / self.unit, self.moments.cov / self.unit**2
        return frechet_from(mean, cov)

    def _named(self, scores: dict[str, float]) -> dict[str, float]:
        """frechet_infinity -> frechet_<name>_infinity, kid -> kid_<name>."""
        named = {}
        for key, value in scores.items():
            first, *rest = [key] if key not in SUFFIXED else key.split("_", 1)
            named["_".join([first, self.name, *rest])] = value
        return named


def cells_for(count: int) -> int:
    """Cells for data_copying: so few that each holds enough of `count` // 2 rows."""
    fitting = count // (4 * memorization.MIN_IN_CELL)
    return max(1, min(memorization.CELLS, fitting))


SUFFIXED = {
    "frechet_infinity",
    "frechet_parts_mean",
    "frechet_parts_std",
    "frechet_test",
    "kid_std",
}


def class_scores(
    logits: np.ndarray, reference: np.ndarray, name: str
) -> dict[str, float]:
    """`inception_score` and `class_metrics` of samples, in the eyes of one classifier.

    logits: (n, classes) of the samples. reference: the class (m,) that it reads each
        training image as, so that its mistakes are the same on both sides.
    """
    mean, std = inception_score.inception_score(logits)
    balance = class_metrics(logits.argmax(axis=1), reference, logits.shape[1])
    return {
        f"inception_score_{name}": mean,
        f"inception_score_{name}_std": std,
        f"class_kl_{name}": balance["class_kl"],
        f"classes_{name}": balance["classes"],
    }


class Panel:
    """All scores of samples in all spaces: raw rows and the features of an extractor.

    It keeps the floors, so that a second set of samples costs half.
    """

    def __init__(
        self,
        reference: Summary,
        test: Summary,
        *,
        spec: DataSpec,
        extractor: str | None = None,
        keep_floors: Keep | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        """reference, test: from `summarize` with keep=True, by one extractor.

        extractor: its name. keep_floors: for panels to come; None: in this one alone.
        should_stop: asked between parts; True raises Stopped.
        """
        self._reference, self._test, self._extractor = reference, test, extractor
        self._keep_floors = keep_floors
        self._should_stop = should_stop
        is_image = spec.dtype == "uint8"
        self._spaces = {
            "rows": Space(
                "pixels" if is_image else "points",
                _kept(reference.rows),
                _kept(test.rows),
                reference.moments,
                1.0 / (spec.num_levels - 1) if is_image else 1.0,
            )
        }
        if extractor is not None:
            self._spaces["feature_rows"] = Space(
                extractor,
                _kept(reference.feature_rows),
                _kept(test.feature_rows),
                reference.features,
            )
        self._floors = functools.cache(self._kept_floors)

    def missing(self, count: int) -> str | None:
        """Why `count` samples have no scores; None if they have."""
        fewest = min(count, self._reference.count, self._test.count)
        if fewest >= MIN_ROWS:
            return None
        return f"it takes {MIN_ROWS} samples, training and test examples; got {fewest}"

    def __call__(self, samples: Summary) -> dict[str, float]:
        """The scores, and each again with "_floor" at the end: see `Space.floors`."""
        scores = {"duplicates": memorization.duplicate_share(_kept(samples.rows))}
        for kind, space in self._spaces.items():
            self._heed_stop()
            scores |= space.scores(_kept(getattr(samples, kind)))
        scores |= self._class_scores(samples.logits)
        return scores | self._floors(samples.count)

    def nearest_training(
        self, samples: Summary, num: int, k: int
    ) -> tuple[Int[np.ndarray, " num"], Int[np.ndarray, "num k"]]:
        """The `num` samples nearest to a training example, raw: (which, neighbours).

        The nearest comes first.
        """
        rows = _kept(samples.rows)
        found = self._spaces["rows"].neighbors(rows, k)
        order = np.argsort(found.squared[:, 0], kind="stable")[:num]
        return spread(len(rows), MAX_COPIES)[order], found.index[order]

    def protocol(self, count: int) -> dict[str, Any]:
        """How the scores of `count` samples are computed, in words."""
        real, rows = (min(n, MAX_PRDC) for n in (self._reference.count, count))
        real = min(real, rows)
        size = min(kid.SUBSET_SIZE, count, self._reference.count)
        fewer = "" if size == kid.SUBSET_SIZE else f" (not {kid.SUBSET_SIZE}: too few)"
        k_p, k_d = precision.K_PRECISION, precision.K_DENSITY
        return {
            "kid": f"{kid.SUBSETS} subsets of {size}{fewer}, unbiased, kernel "
            "(x.y/d + 1)^3, seed 2020; kid_std over the subsets, where they differ",
            "precision_recall": f"k {k_p}, <= the radius, {real} real, {rows} fake",
            "density_coverage": f"k {k_d}, < the radius, {real} real, {rows} fake",
            "expected_coverage": precision.expected_coverage(real, rows),
            "frechet_infinity": f"a line in 1/N over {fd_infinity.SIZES} sizes up to "
            f"{count}",
            "frechet_parts": f"{fd_infinity.PARTS} disjoint parts of "
            f"{count // fd_infinity.PARTS}",
            "frechet_test": f"to the {self._test.count} rows of the test split",
            "authpct": f"percent of {min(count, MAX_COPIES)} samples; of these also "
            "nearest_training, the median distance",
            "data_copying": f"C_T: PCA {memorization.DIMS}, {cells_for(count)} cells "
            f"with at least {memorization.MIN_IN_CELL} samples",
            "nearest_other_ratio": f"median of {rows} samples over that of {real} real",
            "inception_score": f"{inception_score.SPLITS} splits, shuffle seed 2020",
            "class_kl": "against the reference as the extractor reads it",
            "panel_floors": f"{min(count, self._test.count)} of the test split as "
            "samples; data_copying, frechet_test: one half of them against the other",
        }

    def _class_scores(self, logits: np.ndarray | None) -> dict[str, float]:
        if logits is None or self._extractor is None:
            return {}
        return class_scores(logits, _kept(self._reference.predicted), self._extractor)

    def _kept_floors(self, count: int) -> dict[str, float]:
        if self._keep_floors is None:
            return self._floors_of(count)
        return self._keep_floors(self._key(count), lambda: self._floors_of(count))

    def _key(self, count: int) -> str:
        """A hash of all that the floors depend on: the data, and what computes them."""
        unit = self._spaces["rows"].unit
        digest = hashlib.sha256(json.dumps([count, unit, self._extractor]).encode())
        digest.update(code().encode())
        for summary in (self._reference, self._test):
            for field in ("rows", "feature_rows", "logits", "predicted"):
                array = getattr(summary, field)
                if array is not None:
                    digest.update(f"{field} {array.shape} {array.dtype}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _floors_of(self, count: int) -> dict[str, float]:
        some = spread(self._test.count, count)
        scores = {
            "duplicates": memorization.duplicate_share(_kept(self._test.rows)[some])
        }
        for space in self._spaces.values():
            self._heed_stop()
            scores |= space.floors(count)
        logits = self._test.logits
        scores |= self._class_scores(None if logits is None else logits[some])
        return {f"{name}_floor": value for name, value in scores.items()}

    def _heed_stop(self) -> None:
        if self._should_stop():
            raise Stopped("while comparing samples with the data")


def _kept(rows: np.ndarray | None) -> np.ndarray:
    if rows is None:
        raise ValueError("the panel needs the rows: summarize with keep=True")
    return rows
