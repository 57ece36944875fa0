"""Weights out and in: a model in a folder of three files, without its training."""
