"""Guidance: wrappers around denoisers."""

from genjax.diffusion.denoiser import Denoise


def classifier_free(
    conditional: Denoise, unconditional: Denoise, scale: float
) -> Denoise:
    """unconditional + scale (conditional - unconditional): 0 ignores the label, 1 is plain.

    Ho & Salimans 2022 (arXiv:2207.12598, eq. 6), whose w is scale - 1. They mix eps;
    mixing x0 is the same, since the two differ by terms in x_t that cancel.
    """

    def denoise(x, t):
        without = unconditional(x, t)
        return without + scale * (conditional(x, t) - without)

    return denoise
