"""What the command line can do: a file or folder for each mode."""
