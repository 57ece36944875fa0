"""Objectives: what a step minimises, as pure functions of arrays."""
