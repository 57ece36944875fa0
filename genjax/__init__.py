"""genjax: deep generative models in JAX, one contract and one loop for every family."""

__version__ = "0.1.0"
