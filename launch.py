"""Trains, evaluates, samples or looks into an experiment, chosen by a config file.

python launch.py --config=configs/ddpm_digits.py
python launch.py --workdir=runs/ddpm_digits --mode=sample --num_samples=100

From here to the maths: the config names an experiment, experiments/<name>.py holds the
method, and what that imports from genjax holds the formulas. genjax/run.py puts the
experiment and its data together, and genjax/modes/ does what --mode says. Where genjax
is installed, `genjax` and `python -m genjax` are this program (genjax/__main__.py).
"""

import sys

from genjax.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
