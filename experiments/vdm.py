"""VDM: a diffusion model trained on its bound (Kingma et al. 2021, arXiv:2107.00630).

The log-SNR falls in a straight line from -gamma_min at t = 0 to -gamma_max at t = 1,
and both ends are learned with the network (section 3.2; alpha^2 = sigmoid(-gamma)). The
loss is the bound in continuous time, `genjax.diffusion.continuous`, in nats a
dimension, with antithetic t. What lies between the ends does not change the bound, only
its variance, so the paper's monotone network for gamma is left out.

The network predicts eps as eps_hat = x_t + net(x_t) (the released code), and sees
sin and cos of 2^n pi x_t as well (section 3.4): the last bits of a pixel. Or, for
pixels, "levels": the network gives logits of each level, and Bayes' rule adds what the
pixel's own noisy value says,

  (1) p(x0 = v | x_t) proportional to exp(logits_v) q(x_t | x0 = v),  x0_hat = its mean.

That is not the paper's. An untrained network is then a model of uniform independent
pixels, exactly, and the small noise near t = 0 needs no learning.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from genjax.choices import no_labels, one_of
from genjax.diffusion import paths, solvers
from genjax.diffusion.continuous import (
    antithetic_times,
    continuous_bound,
    level_logits,
    levels_of,
)
from genjax.diffusion.denoiser import Denoise, as_denoiser
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.process import make_process
from genjax.diffusion.vlb import Bound
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


class Weights(NamedTuple):
    """What is learned: a network and the two ends of gamma."""

    network: Params
    gamma_min: Array
    gamma_range: Array


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Weights
    ema_params: Weights
    opt_state: optax.OptState
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """VDM on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    outputs = spec.num_levels if method.prediction == "levels" else 1
    network = backbone(out_channels=spec.shape[-1] * outputs, **model)
    num_dims = math.prod(spec.shape)

    optim = config.optim.to_dict()
    ema_decay, accumulation = optim.pop("ema_decay"), optim.pop("accumulation")
    optimizer = make_optimizer(**optim)

    # --- data and network -------------------------------------------------------------

    def to_model(data: Array) -> Array:
        """Pixels to [-1, 1]; points to about unit variance."""
        if is_image:
            return 2.0 * data.astype(jnp.float32) / (spec.num_levels - 1) - 1.0
        return data / method.point_scale

    def to_data(x: Array) -> Array:
        if not is_image:
            return x * method.point_scale
        unit = (jnp.clip(x, -1.0, 1.0) + 1.0) / 2.0
        return jnp.round(unit * (spec.num_levels - 1)).astype(jnp.uint8)

    def predict(params: Weights, x: Array, t: Array, dropout_key=None) -> Array:
        """What the network says of x_t, (B, ..., channels outputs)."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
        x = with_fourier(x, method.fourier_powers)
        variables = {"params": params.network}
        out = network.apply(variables, x, t, train=train, rngs=streams)
        assert isinstance(out, jax.Array)
        return out

    def init(key: Key) -> State:
        x = with_fourier(jnp.zeros((1, *spec.shape)), method.fourier_powers)
        params = Weights(
            network=network.init(key, x, jnp.zeros(1))["params"],
            gamma_min=jnp.array(method.gamma_min, jnp.float32),
            gamma_range=jnp.array(method.gamma_max - method.gamma_min, jnp.float32),
        )
        return State(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # its own memory: it is donated
            opt_state=optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
        )

    def make_denoiser(params: Weights, path: GaussianPath, dropout_key=None) -> Denoise:
        """denoise(x, t) for these weights."""
        if method.prediction == "eps":
            return as_denoiser(
                lambda x, t: x + predict(params, x, t, dropout_key), path, "eps"
            )

        def denoise(x: Array, t: Array) -> Array:  # (1)
            out = predict(params, x, jnp.broadcast_to(t, x.shape[:1]), dropout_key)
            logits = out.reshape(*x.shape, spec.num_levels)
            own = level_logits(x, t, path=path, num_levels=spec.num_levels)
            return jax.nn.softmax(logits + own) @ levels_of(spec.num_levels)

        return denoise

    # --- training ---------------------------------------------------------------------

    def bound_of(
        params: Weights, x0: Array, t: Array, key: Key, dropout_key=None
    ) -> Bound:
        """The bound of each example, with (2) of it from one time t an example."""
        path = path_of(params)
        denoise = make_denoiser(params, path, dropout_key)
        return continuous_bound(
            denoise, x0, t, path=path, num_levels=spec.num_levels, key=key
        )

    def loss_fn(params: Weights, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        t_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = to_model(batch["image"])
        t = antithetic_times(t_key, len(x0))
        bound = bound_of(params, x0, t, noise_key, dropout_key)
        parts = {f"loss_{k}": v.mean() / num_dims for k, v in bound._asdict().items()}
        return bound.nats.mean() / num_dims, parts

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        (loss, parts), grads = mean_gradients(
            loss_fn, state.params, batch, key, accumulation=accumulation
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        assert isinstance(params, Weights)  # optax says: any tree
        ema_params = ema_update(
            state.ema_params, params, step=state.step, decay=ema_decay
        )
        metrics = {
            **parts,
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "gamma_min": params.gamma_min,
            "gamma_max": params.gamma_min + jnp.abs(params.gamma_range),
        }
        return State(params, ema_params, opt_state, state.step + 1), metrics

    # --- what the model can do --------------------------------------------------------

    sampling_times = jnp.linspace(1.0, 0.0, sampler.num_steps + 1)

    def solve(
        state: State, key: Key, num: int, label: Array | None, along: bool = False
    ) -> Array:
        """The x at t = 0 or, along the way, at all times of sampling.

        Raises UserError for a label: the model knows none.
        """
        no_labels(label)
        noise_key, chain_key = jax.random.split(key)
        path = path_of(state.ema_params)
        return solvers.sample_with(
            sampler.name,
            make_denoiser(state.ema_params, path),
            jax.random.normal(noise_key, (num, *spec.shape)),
            sampling_times,
            path=path,
            key=chain_key,
            variance="fixed_small",
            along=along,
        )

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        return to_data(solve(state, key, num, label))

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        """Minus the bound, with t in `likelihood_draws` strata for each example."""
        x0 = to_model(batch["image"])
        num = config.eval.likelihood_draws
        t_key, noise_key = jax.random.split(key)
        t = (jnp.arange(num)[:, None] + jax.random.uniform(t_key, (num, len(x0)))) / num

        def add(total: Array, draw: tuple[Array, Key]) -> tuple[Array, None]:
            return total + bound_of(state.ema_params, x0, *draw).nats, None

        draws = t, jax.random.split(noise_key, num)
        total, _ = jax.lax.scan(add, jnp.zeros(len(x0)), draws)
        if is_image:
            return -total / num
        # a density of points scales with the unit of the axes
        return -total / num - num_dims * jnp.log(method.point_scale)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """The three parts of the bound, in nats."""
        t_key, noise_key = jax.random.split(key)
        x0 = to_model(batch["image"])
        t = antithetic_times(t_key, len(x0))
        bound = bound_of(state.ema_params, x0, t, noise_key)
        return {f"nats_{k}": v for k, v in bound._asdict().items()}

    if is_image:
        decoder = "decoder over the levels, no dequantisation"
    else:
        decoder = f"Gaussian decoder; log-det of the scale 1/{method.point_scale}"
    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_note=f"variational bound in continuous time, "
        f"{config.eval.likelihood_draws} stratified times an example; {decoder}; "
        "moving average of weights",
        evaluate=evaluate,
        process=make_process(
            solve=solve,
            denoiser=lambda state, label: make_denoiser(
                state.ema_params, path_of(state.ema_params)
            ),
            path=lambda state: path_of(state.ema_params),
            times=sampling_times,
            to_model=to_model,
            to_data=to_data,
            is_image=is_image,
        ),
        raw_weights=lambda state: state._replace(ema_params=state.params),
    )


# --- the method -----------------------------------------------------------------------


def path_of(params: Weights) -> GaussianPath:
    """The path whose -logsnr rises from gamma_min by |gamma_range|, linearly in t."""
    return paths.of_logsnr(
        lambda t: -(params.gamma_min + jnp.abs(params.gamma_range) * t)
    )


def with_fourier(
    x: Float[Array, "*s c"], powers: tuple[int, ...]
) -> Float[Array, "*s c2"]:
    """x, and sin and cos of 2^n pi x for each n of powers, as more channels.

    n = 7 and 8 for 256 levels (section 3.4): neighbouring levels are half a turn and a
    whole turn apart.
    """
    angles = [2.0**n * math.pi * x for n in powers]
    waves = [wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)]
    return jnp.concatenate([x, *waves], axis=-1)


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, sampler = config.method, config.sampler
    one_of("model.backbone", config.model.backbone, ["unet", "dit", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    one_of("method.prediction", method.prediction, ["eps", "levels"])
    one_of("sampler.name", sampler.name, solvers.NAMES)
    for name, value in [
        ("method.point_scale", method.point_scale),
        ("sampler.num_steps", sampler.num_steps),
        ("eval.likelihood_draws", config.eval.likelihood_draws),
    ]:
        if not value > 0:
            raise UserError(f"{name} must be more than 0, not {value}")
    if not method.gamma_max > method.gamma_min:
        raise UserError(
            f"method.gamma_max={method.gamma_max} must be more than "
            f"method.gamma_min={method.gamma_min}"
        )
    is_image, backbone = spec.num_levels > 0, config.model.backbone
    if is_image != (backbone != "mlp"):
        fitting = "'unet' or 'dit'" if is_image else "'mlp'"
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, for which "
            f"model.backbone={backbone!r} is not made: choose {fitting}"
        )
    if not is_image and method.prediction == "levels":
        raise UserError(
            f"{spec.name} has points, which have no levels: set method.prediction='eps'"
        )
