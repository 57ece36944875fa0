"""--mode=solvers: every solver on one trained model, against what it costs."""

from genjax.modes.compare_solvers.mode import MODE as MODE
