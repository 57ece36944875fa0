"""One set of maths for every diffusion method: paths, denoisers, samplers, bounds."""
