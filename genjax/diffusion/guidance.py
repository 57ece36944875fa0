"""Guidance: wrappers around denoisers."""

from genjax.diffusion.denoiser import Denoise


def classifier_free(
    conditional: Denoise, unconditional: Denoise, scale: float
) -> Denoise:
    """A denoiser that follows the label more strongly (scale > 1) or not at all (0).

    unconditional + scale (conditional - unconditional); 1 is the conditional one alone.
    Ho & Salimans 2022 (arXiv:2207.12598, eq. 6), whose w is scale - 1. They mix eps;
    mixing x0 is the same, since the two differ by terms in x_t that cancel.
    """

    def denoise(x, t):
        without = unconditional(x, t)
        return without + scale * (conditional(x, t) - without)

    return denoise
