"""Data sets, their row order, and the way to the device."""
