"""Networks: flax linen modules that know nothing of configs, optimizers or data."""
