"""The main scores, each beside its baselines."""

from genjax.modes.results import score_lines


def lines(**metrics):
    return score_lines({"metrics": metrics})


def test_a_score_has_its_baselines_beside_it():
    assert lines(
        loss=1.0,
        nll_nats=189.48,
        nll_nats_stderr=1.2,
        bits_per_dim=4.2713,
        bits_per_dim_stderr=0.03,
        uniform_nll_nats=181.3,
        uniform_bits_per_dim=4.0871,
        independent_pixels_bits_per_dim=2.4032,
        frechet_pixels=19.9128,
        frechet_pixels_floor=1.579,
    ) == [
        "bits_per_dim 4.271  (uniform 4.087, independent pixels 2.403)",
        "frechet_pixels 19.91  (floor 1.579)",
    ]


def test_points_have_nats():
    assert lines(nll_nats=0.3312, ppca_nll_nats=2.5) == ["nll_nats 0.3312  (ppca 2.5)"]


def test_without_baselines_everything_is_shown_and_what_is_not_finite_is_said():
    assert lines(squared_error=0.7464, angle=None) == [
        "squared_error 0.7464",
        "angle not finite",
    ]
