"""--mode=trajectories: how noise becomes data in a trained model, and back."""
