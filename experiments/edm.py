"""EDM: a denoiser with preconditioning (Karras et al. 2022, arXiv:2206.00364).

Noise of standard deviation sigma is added to data of standard deviation sigma_data, and
nothing is shrunk: x = x0 + sigma eps. The denoiser mixes x with what a network F says:

  (1) D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)                    (eq. 7)
  (2) c_skip = sigma_data^2 / s^2,    c_out = sigma sigma_data / s,
      c_in = 1 / s,    c_noise = log(sigma) / 4                           (table 1)

with s^2 = sigma^2 + sigma_data^2. Then F sees unit variance, and its target

  (3) (x0 - c_skip x) / c_out

has unit variance too, at every sigma. Training weighs the error of D by lambda(sigma) =
1 / c_out^2, that is the error of F by 1 (eq. 8), with log sigma ~ N(P_mean, P_std^2);
or by another weighting (`genjax.diffusion.weighting`), of which "learned" is that of
EDM2 (Karras et al. 2024, arXiv:2312.02696). It is for training alone.
Samples come from Heun's method on a grid of noise levels, with a little noise put in
again on the way where churn > 0 (algorithm 2), or from any other sampler of
`genjax.diffusion.solvers` on the same grid.

t of this repository is sigma / sigma_max: 0 for data, 1 where sampling starts. With
method.augment_probability > 0 the images are augmented, and the network is told how
(appendix F.2, `genjax.augment.edm`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from genjax.augment import edm as augment
from genjax.axes import per_example
from genjax.choices import one_of
from genjax.diffusion import guidance, paths, solvers, weighting
from genjax.diffusion.conditioning import (
    check_guidance,
    check_labels,
    check_network,
)
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.likelihood import Likelihood
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.process import make_process
from genjax.experiment import Experiment
from genjax.models.dit import DiT
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
    guide_params: Params | None = None  # the average at method.guide_step


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """EDM on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    if method.augment_probability:
        model["num_augment"] = augment.NUM_PARAMETERS
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
        params: Params,
        x: Array,
        noise: Array,
        label: Array | None,
        dropout_key=None,
        moved: Array | None = None,
    ) -> Array:
        """F of (1), for x times c_in and noise = c_noise; moved: None: as it was."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
        told = {} if moved is None else {"augment": moved}
        # sigma from 0.002 to 80 is c_noise from -1.6 to 1.1; the networks want [0, 1]
        t = (noise + 2.0) / 4.0
        variables = {"params": params}
        out = network.apply(variables, x, t, label, train=train, rngs=streams, **told)
        assert isinstance(out, jax.Array)
        return out

    def init(key: Key) -> State:
        x, t = jnp.zeros((1, *spec.shape)), jnp.zeros(1)
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        params = network.init(key, x, t, label)["params"]
        if method.weighting == "learned":  # beside the network, which does not see it
            params = {**params, "uncertainty": weighting.initial_uncertainty()}
        return State(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # its own memory: it is donated
            opt_state=optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            guide_params=jax.tree.map(jnp.copy, params) if method.guide_step else None,
        )

    # --- training ---------------------------------------------------------------------

    def error_of(
        params: Params,
        x0: Array,
        label: Array | None,
        key: Key,
        dropout_key=None,
        moved: Array | None = None,
    ) -> tuple[Array, Array]:
        """The squared error of F, a mean over dimensions, and log sigma; each (B,)."""
        sigma_key, eps_key = jax.random.split(key)
        log_sigma = method.p_mean + method.p_std * jax.random.normal(
            sigma_key, x0.shape[:1]
        )
        c = precondition(jnp.exp(log_sigma), method.sigma_data)
        eps = jax.random.normal(eps_key, x0.shape)
        x = x0 + per_example(jnp.exp(log_sigma), x0) * eps
        target = (x0 - per_example(c.skip, x) * x) / per_example(c.out, x)  # (3)
        x = per_example(c.into, x) * x
        f = predict(params, x, c.noise, label, dropout_key, moved)
        error = jnp.square(target - f)
        return jnp.mean(error, axis=tuple(range(1, error.ndim))), log_sigma

    def weighted(error: Array, log_sigma: Array, params: Params) -> Array:
        """The loss of each example, from the error of F."""
        if method.weighting == "edm":
            return error
        if method.weighting == "learned":
            u = weighting.uncertainty(params["uncertainty"], -2.0 * log_sigma)
            return weighting.uncertain(error, u)
        sigma = jnp.exp(log_sigma)
        weight = weighting.weight(
            method.weighting,
            sigma / sampler.sigma_max,
            path=path,
            prediction="x0",
            min_snr_gamma=method.min_snr_gamma,
            sigmoid_bias=method.sigmoid_bias,
        )
        # D's error is c_out times F's
        c = precondition(sigma, method.sigma_data)
        return weight * jnp.square(c.out) * error

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        flip_key, label_key, noise_key, dropout_key = jax.random.split(key, 4)
        x0, moved = to_model(batch["image"]), None
        if method.augment_probability:
            x0, moved = augment.augment(
                flip_key,
                x0,
                probability=method.augment_probability,
                x_flip_probability=1.0 if method.flip else None,
            )
        elif method.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        label = None
        if num_classes:  # now and then no label: teaches the unconditional model too
            hidden = jax.random.bernoulli(label_key, method.label_dropout, (len(x0),))
            label = jnp.where(hidden, num_classes, batch["label"])
        error, log_sigma = error_of(params, x0, label, noise_key, dropout_key, moved)
        return weighted(error, log_sigma, params).mean(), {}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        (loss, _), grads = mean_gradients(
            loss_fn, state.params, batch, key, accumulation=accumulation
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = ema_update(
            state.ema_params, params, step=state.step, decay=ema_decay
        )
        step = state.step + 1
        guide_params = guidance.early(
            state.guide_params, ema_params, step=step, until=method.guide_step
        )
        state = State(params, ema_params, opt_state, step, guide_params)
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

    guidance_options = {
        "scale": sampler.guidance_scale,
        "guide_scale": sampler.autoguidance_scale,
        "interval": (sampler.guidance_min_t, sampler.guidance_max_t),
        "rescale": sampler.guidance_rescale,
    }

    def solve(
        state: State, key: Key, num: int, label: Array | None, along: bool = False
    ) -> Array:
        """The x at t = 0 or, along the way, at all times of sampling.

        Raises UserError for labels that the model does not know.
        """
        label_key, noise_key, churn_key = jax.random.split(key, 3)
        check_labels(label, num, num_classes)
        if num_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, num_classes)
        denoise = guidance.guided(
            make_denoiser(state.ema_params, label),
            null=make_denoiser(state.ema_params, jnp.full(num, num_classes)),
            guide=make_denoiser(state.guide_params, label),
            **guidance_options,
        )
        x = sampler.sigma_max * jax.random.normal(noise_key, (num, *spec.shape))
        return solvers.sample_with(
            sampler.name,
            denoise,
            x,
            sampling_times,
            path=path,
            key=churn_key,
            variance="fixed_small",  # as a path without shrinking needs it
            churn=sampler.churn,
            churn_range=(sampler.churn_min, sampler.churn_max),
            churn_noise=sampler.churn_noise,
            end=sampler.sigma_min / sampler.sigma_max,
            along=along,
        )

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        return to_data(solve(state, key, num, label))

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
        """loss_weighted: by EDM's weights, however it was trained."""
        x0, label = to_model(batch["image"]), batch["label"] if num_classes else None
        return {"loss_weighted": error_of(state.ema_params, x0, label, key)[0]}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=None if likelihood.method == "none" else log_likelihood,
        likelihood_kind=likelihood.kind(spec.num_levels),
        likelihood_note=likelihood.note(spec.num_levels, labels=num_classes > 0),
        likelihood_given="label" if num_classes else "nothing",
        evaluate=evaluate,
        process=make_process(
            solve=solve,
            denoiser=lambda state, label: make_denoiser(state.ema_params, label),
            path=lambda state: path,
            times=sampling_times,
            to_model=to_model,
            to_data=to_data,
            is_image=is_image,
            num_classes=num_classes,
        ),
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
    one_of("model.backbone", config.model.backbone, ["unet", "dit", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    weightings = ["edm", "min_snr", "sigmoid", "learned"]
    one_of("method.weighting", method.weighting, weightings)
    one_of("sampler.name", sampler.name, solvers.NAMES)
    for name, value in [
        ("method.sigma_data", method.sigma_data),
        ("method.p_std", method.p_std),
        ("method.min_snr_gamma", method.min_snr_gamma),
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
    if not 0 <= method.augment_probability <= 1:
        raise UserError(
            "method.augment_probability must be in 0 ... 1, not "
            f"{method.augment_probability}"
        )
    if method.augment_probability and spec.num_levels == 0:
        raise UserError(
            f"{spec.name} has points, and only images are augmented: set "
            "method.augment_probability=0.0"
        )
    if sampler.churn < 0:
        raise UserError(f"sampler.churn must be 0 or more, not {sampler.churn}")
    check_network(
        spec,
        backbone=config.model.backbone,
        num_classes=config.model.num_classes,
        guidance_scale=sampler.guidance_scale,
    )
    check_guidance(
        interval=(sampler.guidance_min_t, sampler.guidance_max_t),
        rescale=sampler.guidance_rescale,
        autoguidance_scale=sampler.autoguidance_scale,
        guide_step=config.method.guide_step,
        num_steps=config.training.num_steps,
    )
