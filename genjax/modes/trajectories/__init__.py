"""--mode=trajectories: how noise becomes data in a trained model, and back."""

from genjax.modes.trajectories.mode import MODE as MODE
