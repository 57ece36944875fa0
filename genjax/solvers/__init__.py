"""--mode=solvers: every solver on one trained model, against what it costs."""
