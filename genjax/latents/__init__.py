"""--mode=latents: what a trained model's code looks like."""
