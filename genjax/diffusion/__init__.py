"""Diffusion: one set of maths for every paper. Networks arrive as functions of (x, t).

`paths` says how data become noise, `denoiser` turns what a network predicts into
E[x0 | x_t], `solvers` lead noise back to data, `likelihood` measures log p.
"""

from genjax.diffusion import continuous as continuous
from genjax.diffusion import coupling as coupling
from genjax.diffusion import ode as ode
from genjax.diffusion import paths as paths
from genjax.diffusion import solvers as solvers
from genjax.diffusion import times as times
from genjax.diffusion import vlb as vlb
from genjax.diffusion import weighting as weighting
from genjax.diffusion.denoiser import Denoise as Denoise
from genjax.diffusion.denoiser import as_denoiser as as_denoiser
from genjax.diffusion.denoiser import convert as convert
from genjax.diffusion.denoiser import quantity as quantity
from genjax.diffusion.likelihood import LearnedBound as LearnedBound
from genjax.diffusion.likelihood import Likelihood as Likelihood
from genjax.diffusion.model import DiffusionModel as DiffusionModel
from genjax.diffusion.paths import GaussianPath as GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread as DenoiseAndSpread
from genjax.diffusion.sampler import Guidance as Guidance
from genjax.diffusion.sampler import Sampler as Sampler
from genjax.diffusion.training_times import Times as Times
from genjax.diffusion.weighting import Weighting as Weighting
