"""--mode=latents: what a trained model's code looks like."""

from genjax.modes.latents.mode import MODE as MODE
