import numpy as np
from scipy import stats

from genjax.pictures.histograms import histogram_picture


def shares(points, **options):
    """Green and black pixels of the picture."""
    shown = histogram_picture(points.astype(np.float32), (-4.0, 4.0), **options)
    red, green, blue = (shown[..., i].astype(int) for i in range(3))
    return (green > red + 60).sum(), ((red < 40) & (green < 40) & (blue < 40)).sum()


def test_bars_fill_the_area_under_the_known_density():
    """Half of the points make half of the bars; the others are out of sight."""
    points = np.random.default_rng(0).normal(size=(20_000, 1))
    whole, black = shares(points, cdf=stats.norm.cdf)
    half, _ = shares(
        np.where(np.arange(20_000)[:, None] % 2, points, np.nan), cdf=stats.norm.cdf
    )
    assert 0.42 < half / whole < 0.58
    _, without = shares(points)
    assert black > without + 200  # the outline
