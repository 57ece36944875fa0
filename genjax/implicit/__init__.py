"""--mode=implicit: how a GAN moves its density to that of the data, on the line."""
