"""What an encoder's answer loses, and what any diagonal Gaussian does.

With q* the best Gaussian of each image, which gradients find from the encoder's q
(Cremer et al. 2018, arXiv:1801.03558, section 3),

  log p(x) - ELBO(q) = (log p(x) - ELBO(q*)) + (ELBO(q*) - ELBO(q)):

the inference gap is the approximation gap and the amortisation gap.
"""

import dataclasses

import jax

from genjax.fields import Positive, Steps
from genjax.objectives.elbo import (
    Gaussian,
    ImportanceSampling,
    LogPx,
    drawn_elbo,
    weigh,
)
from genjax.training.optim import maximize
from genjax.typing import Key, Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinedSampling(ImportanceSampling):
    """config.likelihood: importance sampling, and perhaps the gaps of the encoder."""

    refine_steps: Steps = (
        0  # of gradient, to measure the gaps, say 500; 0: not measured
    )
    refine_learning_rate: Positive = 0.02  # learning rate of the refinement

    def gaps(self, log_px: LogPx, q: Gaussian, key: Key) -> Metrics:
        """The gaps and the ELBOs they are taken from, (B,) nats; {} for no steps.

        Both ELBOs are by the same draws; log p(x) by importance samples of q*.
        """
        if not self.refine_steps:
            return {}
        refine_key, elbo_key, weight_key = jax.random.split(key, 3)
        refined = maximize(
            lambda q, key: drawn_elbo(log_px, q, key, 10),
            q,
            refine_key,
            learning_rate=self.refine_learning_rate,
            num_steps=self.refine_steps,
        )
        before = drawn_elbo(log_px, q, elbo_key, 100)
        after = drawn_elbo(log_px, refined, elbo_key, 100)
        exact = self(weigh(log_px, refined), weight_key)
        return {
            "elbo_amortized": before,
            "elbo_refined": after,
            "amortization_gap": after - before,
            "approximation_gap": exact - after,
            "inference_gap": exact - before,
        }
