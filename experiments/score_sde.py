"""Score SDEs: diffusion in continuous time (Song et al. 2021, arXiv:2011.13456).

Data are noised by one of the paper's three SDEs (`method.sde`: "vp", "subvp", "ve"),
whose marginals are x_t = alpha(t) x0 + sigma(t) eps. A network learns the score,

  (1) s(x_t, t) = -net(x_t, t) / sigma(t),    so that net estimates E[eps | x_t],

for all t from `method.start` to 1, by the weighted denoising loss (eq. 7 there)

  (2) int w(t) E |s(x_t, t) - grad log q(x_t | x0)|^2 dt
      = int w(t) / sigma(t)^2 E |eps - net|^2 dt.

`method.weighting` is w: "simple", sigma^2, the paper's (section 3.3); "likelihood",
g(t)^2 / 2, with the diffusion g of the SDE, for which (2) and a constant bound -log p
(Song et al. 2021, arXiv:2101.09258, theorem 3). Since g^2 = -sigma^2 dl/dt, l being the
log-SNR, the latter is 1/2 int E |eps - net|^2 dl, and drawing l uniformly is the
importance sampling of that paper's section 4.3.

The network sees x_t over sqrt(alpha^2 + sigma^2) and t. (The paper's sees x_t, and for
VE log sigma.) With `method.pixel_features`, not the paper's, it sees more
(`genjax.diffusion.pixel_features`). With `method.classifier_width` a second network
learns the class of x_t by its cross-entropy, and the first samples a class by

  (3) grad log p_t(x | y) = s(x, t) + scale grad log p_t(y | x)            (eq. 14)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from genjax.axes import mean_over_dims
from genjax.diffusion import DiffusionModel, GaussianPath, Sampler
from genjax.diffusion.as_experiment import DiffusionConfig, as_experiment
from genjax.diffusion.continuous import weighted_times
from genjax.diffusion.denoiser import as_denoiser
from genjax.diffusion.likelihood import dequantize
from genjax.diffusion.pixel_features import network_input
from genjax.diffusion.sde import SDE
from genjax.experiment import Experiment
from genjax.fields import Share, Steps
from genjax.models.backbone import make_network
from genjax.models.noisy_classifier import class_error, make_noisy_classifier
from genjax.state import TrainState
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Net, Params, UserError

DrawTimes = Callable[[Key, int], tuple[Array, Array]]  # (key, num) -> (t, weight)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the papers leave open."""

    sde: SDE = SDE()  # the SDE that adds noise to the data
    start: Share = 1e-5  # smallest t in training
    weighting: Literal["simple", "likelihood"] = "simple"  # w of (2)
    dequantize: bool = False  # spread pixels over their level, for likelihood by ode
    pixel_features: bool = False  # further inputs, see `diffusion.pixel_features`
    classifier_width: Steps = 0  # width of the classifier in (3); 0: no classifier

    def __post_init__(self) -> None:
        if not 0.0 < self.start < 1.0:
            raise UserError(f"config.method.start must lie in (0, 1), not {self.start}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DiffusionConfig):
    """The sections of a config for this file."""

    method: Method = Method()
    sampler: Sampler = Sampler(name="predictor_corrector", num_steps=1000)


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """A score SDE on images or points. Raises UserError for what does not fit."""
    method, scale = config.method, config.inputs.scale(spec)
    path = method.sde.path
    draw_times = functools.partial(
        weighted_times, path=path, start=method.start, weighting=method.weighting
    )
    if not scale.is_image and (method.dequantize or method.pixel_features):
        raise UserError(
            f"{spec.name} has points, not pixels: set config.method.dequantize=False "
            "and pixel_features=False"
        )
    scaled = functools.partial(network_input, path=path, num_levels=0)
    levels, width = spec.num_levels * method.pixel_features, method.classifier_width
    see = functools.partial(network_input, path=path, num_levels=levels)
    network = make_network(spec, see=see, **config.model)
    classifier = make_noisy_classifier(spec, width, scaled) if width else None

    def init(key: Key) -> Params:
        params = network.init(key)
        return params | {"classifier": classifier.init(key)} if classifier else params

    def losses(
        params: Params, x0: Array, label: Array | None, key: Key, dropout_key=None
    ) -> Metrics:
        net = network.bind(params, label, dropout_key)
        return {f"loss_{method.weighting}": score_error(net, x0, key, path, draw_times)}

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        input_key, pixel_key, noise_key, dropout_key = jax.random.split(key, 4)
        x0, label = config.inputs(input_key, batch, scale, network.num_classes)
        x0 = dequantize(x0, scale, pixel_key) if method.dequantize else x0
        (loss,) = losses(params, x0, label, noise_key, dropout_key).values()
        if not classifier:
            return loss.mean(), {}
        t_key, eps_key = jax.random.split(jax.random.fold_in(noise_key, 1))
        t, _ = draw_times(t_key, len(x0))
        xt = path.diffuse(x0, jax.random.normal(eps_key, x0.shape), t)
        error = class_error(classifier.of(params)(xt, t), batch["label"]).mean()
        return loss.mean() + error, {"class_loss": error}

    model = DiffusionModel(
        denoiser=lambda p, label: as_denoiser(network.bind(p, label), path, "eps"),
        path=lambda params: path,
        scale=scale,
        shape=spec.shape,
        sampler=config.sampler,
        num_classes=network.num_classes,
        end=method.start,
        classifier=classifier and classifier.of,
        classifier_classes=spec.num_classes,
    )
    return as_experiment(config, model, init, loss_fn=loss_fn, losses=losses)


def score_error(
    net: Net, x0: Array, key: Key, path: GaussianPath, draw_times: DrawTimes
) -> Array:
    """(2) for each example, (B,): a mean over its dimensions."""
    t_key, eps_key = jax.random.split(key)
    t, weight = draw_times(t_key, len(x0))
    eps = jax.random.normal(eps_key, x0.shape)
    return weight * mean_over_dims(jnp.square(eps - net(path.diffuse(x0, eps, t), t)))
