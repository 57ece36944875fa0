"""--mode=implicit: a GAN on the line, frame by frame over training."""

from genjax.modes.implicit.mode import MODE as MODE
