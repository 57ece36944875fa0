"""Data sets, their row order, and their transfer to the device."""
