"""EDM: a denoiser with preconditioning (Karras et al. 2022, arXiv:2206.00364).

Noise of standard deviation sigma is added to data of standard deviation sigma_data, and
nothing is shrunk: x = x0 + sigma eps. The denoiser mixes x with what a network F says:

  (1) D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)                    (eq. 7)
  (2) c_skip = sigma_data^2 / s^2,    c_out = sigma sigma_data / s,
      c_in = 1 / s,    c_noise = log(sigma) / 4                           (table 1)

with s^2 = sigma^2 + sigma_data^2. Then F sees unit variance, and its target

  (3) (x0 - c_skip x) / c_out

has unit variance too, at every sigma. Training weighs the error of D by lambda(sigma) =
1 / c_out^2, that is the error of F by 1 (eq. 8), with log sigma ~ N(P_mean, P_std^2).
Samples come from Heun's method on a grid of noise levels, with a little noise put in
again on the way where churn > 0 (algorithm 2).

t of this repository is sigma / sigma_max: 0 for data, 1 where sampling starts. The
non-leaking augmentation of the paper's appendix F.2 is not here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from genjax.choices import one_of
from genjax.diffusion import guidance, ode, paths
from genjax.diffusion.conditioning import check_labels, check_network
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.likelihood import Likelihood
from genjax.diffusion.paths import GaussianPath, per_example
from genjax.experiment import Experiment
from genjax.models.mlp import TimeMLP
from genjax.models.unet import UNet
from genjax.train.optim import ema_update, make_optimizer, mean_gradients
from genjax.typing import (
    Array,
    Batch,
    Config,
    DataSpec,
    Key,
    Metrics,
    Params,
    UserError,
)


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params
    ema_params: Params
    opt_state: optax.OptState
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """EDM on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    network = backbone(out_channels=spec.shape[-1], **model)
    num_classes = config.model.num_classes

    optim = config.optim.to_dict()
    ema_decay, accumulation = optim.pop("ema_decay"), optim.pop("accumulation")
    optimizer = make_optimizer(**optim)

    path = paths.edm(sampler.sigma_max)

    # --- data and network -------------------------------------------------------------

    def to_model(data: Array) -> Array:
        """Pixels to [-1, 1]; points divided by their scale."""
        if is_image:
            return 2.0 * data.astype(jnp.float32) / (spec.num_levels - 1) - 1.0
        return data / method.point_scale

    def to_data(x: Array) -> Array:
        if not is_image:
            return x * method.point_scale
        unit = (jnp.clip(x, -1.0, 1.0) + 1.0) / 2.0
        return jnp.round(unit * (spec.num_levels - 1)).astype(jnp.uint8)

    def predict(
        params: Params, x: Array, noise: Array, label: Array | None, dropout_key=None
    ) -> Array:
        """F of (1), for x times c_in and noise = c_noise."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
        # sigma from 0.002 to 80 is c_noise from -1.6 to 1.1; the networks want [0, 1]
        t = (noise + 2.0) / 4.0
        out = network.apply({"params": params}, x, t, label, train=train, rngs=streams)
        assert isinstance(out, jax.Array)
        return out

    def init(key: Key) -> State:
        x, t = jnp.zeros((1, *spec.shape)), jnp.zeros(1)
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        params = network.init(key, x, t, label)["params"]
        return State(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # its own memory: it is donated
            opt_state=optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
        )

    # --- training ---------------------------------------------------------------------

    def weighted_error(
        params: Params, x0: Array, label: Array | None, key: Key, dropout_key=None
    ) -> Array:
        """The loss of each example, (B,): a mean over its dimensions."""
        sigma_key, eps_key = jax.random.split(key)
        log_sigma = method.p_mean + method.p_std * jax.random.normal(
            sigma_key, x0.shape[:1]
        )
        c = precondition(jnp.exp(log_sigma), method.sigma_data)
        eps = jax.random.normal(eps_key, x0.shape)
        x = x0 + per_example(jnp.exp(log_sigma), x0) * eps
        target = (x0 - per_example(c.skip, x) * x) / per_example(c.out, x)  # (3)
        f = predict(params, per_example(c.into, x) * x, c.noise, label, dropout_key)
        error = jnp.square(target - f)
        return jnp.mean(error, axis=tuple(range(1, error.ndim)))

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        flip_key, label_key, noise_key, dropout_key = jax.random.split(key, 4)
        x0 = to_model(batch["image"])
        if method.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        label = None
        if num_classes:  # now and then no label: teaches the unconditional model too
            hidden = jax.random.bernoulli(label_key, method.label_dropout, (len(x0),))
            label = jnp.where(hidden, num_classes, batch["label"])
        return weighted_error(params, x0, label, noise_key, dropout_key).mean(), {}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        (loss, _), grads = mean_gradients(
            loss_fn, state.params, batch, key, accumulation=accumulation
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = ema_update(
            state.ema_params, params, step=state.step, decay=ema_decay
        )
        state = State(params, ema_params, opt_state, state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(grads)}

    # --- what the model can do --------------------------------------------------------

    def make_denoiser(params: Params, label: Array | None) -> Denoise:
        """denoise(x, t) for these weights."""
        return preconditioned(
            lambda x, noise: predict(params, x, noise, label),
            path,
            method.sigma_data,
        )

    sampling_times = rho_times(
        sampler.num_steps, sampler.sigma_min, sampler.sigma_max, sampler.rho
    )

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """Raises UserError for labels that the model does not know."""
        label_key, noise_key, churn_key = jax.random.split(key, 3)
        check_labels(label, num, num_classes)
        if num_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, num_classes)
        denoise = make_denoiser(state.ema_params, label)
        if sampler.guidance_scale != 1.0:
            null = make_denoiser(state.ema_params, jnp.full(num, num_classes))
            denoise = guidance.classifier_free(denoise, null, sampler.guidance_scale)
        x = sampler.sigma_max * jax.random.normal(noise_key, (num, *spec.shape))
        x = ode.heun(
            denoise,
            x,
            sampling_times,
            path=path,
            key=churn_key,
            churn=sampler.churn,
            churn_range=(sampler.churn_min, sampler.churn_max),
            churn_noise=sampler.churn_noise,
        )
        return to_data(x)

    likelihood = Likelihood(
        method=config.eval.likelihood,
        trace=config.eval.likelihood_trace,
        tolerance=config.eval.likelihood_tolerance,
        draws=config.eval.likelihood_draws,
        logsnr=config.eval.likelihood_logsnr,
    )

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        return likelihood.log_prob(
            make_denoiser(state.ema_params, batch["label"] if num_classes else None),
            to_model(batch["image"]),
            path=path,
            num_levels=spec.num_levels,
            point_scale=method.point_scale,
            key=key,
            end=sampler.sigma_min / sampler.sigma_max,
        )

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        x0, label = to_model(batch["image"]), batch["label"] if num_classes else None
        return {"loss_weighted": weighted_error(state.ema_params, x0, label, key)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=None if likelihood.method == "none" else log_likelihood,
        likelihood_kind=likelihood.kind(spec.num_levels),
        likelihood_note=likelihood.note(spec.num_levels, labels=num_classes > 0),
        evaluate=evaluate,
        raw_weights=lambda state: state._replace(ema_params=state.params),
    )


# --- the method -----------------------------------------------------------------------


class Preconditioning(NamedTuple):
    """The coefficients of (2), each of the shape of sigma; `into` is c_in."""

    skip: Array
    out: Array
    into: Array
    noise: Array


def precondition(sigma: Float[Array, "*s"], sigma_data: float) -> Preconditioning:
    """(2), for sigma > 0."""
    total = jnp.sqrt(jnp.square(sigma) + sigma_data**2)
    return Preconditioning(
        skip=sigma_data**2 / jnp.square(total),
        out=sigma * sigma_data / total,
        into=1.0 / total,
        noise=jnp.log(sigma) / 4.0,
    )


def preconditioned(
    net: Callable[[Array, Array], Array], path: GaussianPath, sigma_data: float
) -> Denoise:
    """denoise(x, t) by (1), from net(c_in x, c_noise) -> F; t a scalar or (B,)."""

    def denoise(x: Array, t: Array) -> Array:
        c = precondition(jnp.broadcast_to(path.sigma(t), x.shape[:1]), sigma_data)
        f = net(per_example(c.into, x) * x, c.noise)
        return per_example(c.skip, x) * x + per_example(c.out, x) * f

    return denoise


def rho_times(
    num_steps: int, sigma_min: float, sigma_max: float, rho: float
) -> Float[np.ndarray, " n"]:
    """num_steps + 1 times, falling from 1 to sigma_min / sigma_max, then 0. float32.

    Equal strides in sigma^(1 / rho) (eq. 5): the larger rho, the denser near the data.
    """
    strides = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), num_steps)
    return np.append(strides**rho / sigma_max, 0.0).astype(np.float32)


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, sampler = config.method, config.sampler
    one_of("model.backbone", config.model.backbone, ["unet", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    for name, value in [
        ("method.sigma_data", method.sigma_data),
        ("method.p_std", method.p_std),
        ("method.point_scale", method.point_scale),
        ("sampler.num_steps", sampler.num_steps),
        ("sampler.sigma_min", sampler.sigma_min),
        ("sampler.rho", sampler.rho),
    ]:
        if not value > 0:
            raise UserError(f"{name} must be more than 0, not {value}")
    if not sampler.sigma_max > sampler.sigma_min:
        raise UserError(
            f"sampler.sigma_max={sampler.sigma_max} must be more than "
            f"sampler.sigma_min={sampler.sigma_min}"
        )
    if sampler.churn < 0:
        raise UserError(f"sampler.churn must be 0 or more, not {sampler.churn}")
    check_network(
        spec,
        backbone=config.model.backbone,
        num_classes=config.model.num_classes,
        guidance_scale=sampler.guidance_scale,
    )
