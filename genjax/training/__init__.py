"""The one loop, and what it stands on: compilation, sharding, checkpoints, metrics."""
