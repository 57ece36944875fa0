"""Pictures of samples and of numbers: grids, films, and figures with axes."""
