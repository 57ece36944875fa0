"""DDPM: denoising diffusion probabilistic models (Ho et al. 2020, arXiv:2006.11239).

A network learns which noise eps was added to an image at a random time t of a fixed
path (`genjax.diffusion.paths`, equation 1), by the mean squared error over pixels:

  L_simple(x0) = mean over dimensions of (eps - eps_hat(alpha_t x0 + sigma_t eps, t))^2

for t uniform on 1/T ... 1. (The paper's eq. 14 writes the sum; its released code takes
the mean, and so do we: the unit of `loss` is per dimension, near 1 when nothing is
learned.) Samples come from the reverse chain, or from any other sampler of
`genjax.diffusion.solvers`, with the moving average of the weights; the log-likelihood
is the variational bound, or that of the probability-flow ODE.

Improved DDPM (Nichol & Dhariwal 2021, arXiv:2102.09672): a cosine schedule, and with
method.variance = "learned" further channels of the network for the variance of the
reverse steps (`genjax.diffusion.posterior`, 4), taught by the bound at the same t:

  L_hybrid = L_simple + lambda L_vlb                                        (eq. 16)

with lambda = method.vlb_weight, L_vlb in bits per dimension, and no gradient of L_vlb
with respect to the mean.
"""

from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from genjax.choices import one_of
from genjax.diffusion import guidance, paths, solvers, times, vlb, weighting
from genjax.diffusion.conditioning import (
    check_guidance,
    check_labels,
    check_network,
)
from genjax.diffusion.denoiser import Denoise, clipped, convert, quantity
from genjax.diffusion.likelihood import Likelihood
from genjax.diffusion.posterior import (
    DenoiseAndSpread,
    Variance,
    mean_of,
    with_spread,
)
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
    """DDPM on images or points. Raises UserError for a choice that does not exist."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    learned = method.variance == "learned"
    channels = spec.shape[-1]
    network = backbone(out_channels=channels * (2 if learned else 1), **model)
    num_classes = config.model.num_classes

    optim = config.optim.to_dict()
    ema_decay, accumulation = optim.pop("ema_decay"), optim.pop("accumulation")
    optimizer = make_optimizer(**optim)

    path = (
        paths.ddpm_cosine(method.num_timesteps)
        if method.schedule == "cosine"
        else paths.ddpm_linear(method.num_timesteps, method.beta_start, method.beta_end)
    )

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

    def predict(
        params: Params, x: Array, t: Array, label: Array | None, dropout_key=None
    ) -> Array:
        """What the network says of x_t: see `split`."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
        out = network.apply({"params": params}, x, t, label, train=train, rngs=streams)
        assert isinstance(out, jax.Array)
        return out

    def split(out: Array) -> tuple[Array, Array | None]:
        """(an estimate of `method.prediction`, v of a learned variance)."""
        if not learned:
            return out, None
        # v = 1/2 for an output of 0, as in the paper's released code
        return out[..., :channels], 0.5 * (out[..., channels:] + 1.0)

    def init(key: Key) -> State:
        x, t = jnp.zeros((1, *spec.shape)), jnp.zeros(1)
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        params = network.init(key, x, t, label)["params"]
        return State(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # its own memory: it is donated
            opt_state=optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            guide_params=jax.tree.map(jnp.copy, params) if method.guide_step else None,
        )

    # --- training ---------------------------------------------------------------------

    def losses(
        params: Params, x0: Array, label: Array | None, key: Key, dropout_key=None
    ) -> dict[str, Array]:
        """Of each example, (B,): L_simple, a mean over dimensions, its weight, L_vlb.

        L_vlb is left out where the variance is not learned.
        """
        t_key, eps_key = jax.random.split(key)
        i = jax.random.randint(t_key, x0.shape[:1], 1, method.num_timesteps + 1)
        t = i / method.num_timesteps
        eps = jax.random.normal(eps_key, x0.shape)
        xt = path.diffuse(x0, eps, t)
        target = quantity(x0, eps, t, path=path, name=method.prediction)
        value, v = split(predict(params, xt, t, label, dropout_key))
        error = jnp.square(target - value)
        terms = {"simple": jnp.mean(error, axis=tuple(range(1, error.ndim)))}
        terms["weight"] = weighting.weight(
            method.weighting,
            t,
            path=path,
            prediction=method.prediction,
            min_snr_gamma=method.min_snr_gamma,
            sigmoid_bias=method.sigmoid_bias,
        )
        if v is not None:
            terms["vlb"] = vlb.learned_variance_loss(
                x0,
                convert(value, xt, t, path=path, source=method.prediction, target="x0"),
                v,
                i,
                path=path,
                num_timesteps=method.num_timesteps,
                num_levels=spec.num_levels,
            )
        return terms

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
        terms = losses(params, x0, label, noise_key, dropout_key)
        loss = terms["weight"] * terms["simple"]
        if learned:
            loss = loss + method.vlb_weight * terms["vlb"]
        return loss.mean(), {}

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

    def make_spread(params: Params, label: Array | None) -> DenoiseAndSpread:
        """denoise(x, t) -> (x0, v) for these weights; x0 clipped if so chosen."""

        def denoise(x: Array, t: Array) -> tuple[Array, Array | None]:
            t = jnp.broadcast_to(t, x.shape[:1])
            value, v = split(predict(params, x, t, label))
            x0 = convert(value, x, t, path=path, source=method.prediction, target="x0")
            return x0, v

        return with_spread(denoise, clipped) if sampler.clip else denoise

    def make_denoiser(params: Params, label: Array | None) -> Denoise:
        """denoise(x, t) -> x0 for these weights, clipped if so chosen."""
        return mean_of(make_spread(params, label))

    sampling_times = times.spaced(
        sampler.spacing,
        sampler.num_steps,
        path=path,
        num_timesteps=method.num_timesteps,
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
        label_key, noise_key, chain_key = jax.random.split(key, 3)
        check_labels(label, num, num_classes)
        if num_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, num_classes)

        def guided(denoise: Denoise) -> Denoise:
            denoise = guidance.guided(
                denoise,
                null=make_denoiser(state.ema_params, jnp.full(num, num_classes)),
                guide=make_denoiser(state.guide_params, label),
                **guidance_options,
            )
            return clipped(denoise) if sampler.clip else denoise

        denoise = with_spread(make_spread(state.ema_params, label), guided)
        x = jax.random.normal(noise_key, (num, *spec.shape))
        return solvers.sample_with(
            sampler.name,
            denoise,
            x,
            sampling_times,
            path=path,
            key=chain_key,
            eta=sampler.eta,
            variance=sampler.variance,
            churn=sampler.churn,
            snr=sampler.snr,
            corrector_steps=sampler.corrector_steps,
            tolerance=sampler.tolerance,
            end=1.0 / method.num_timesteps,
            along=along,
        )

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        return to_data(solve(state, key, num, label))

    def labels_of(batch: Batch) -> Array | None:
        return batch["label"] if num_classes else None

    by_ode = Likelihood(
        method="ode",
        trace=config.eval.likelihood_trace,
        tolerance=config.eval.likelihood_tolerance,
    )
    uses_ode = config.eval.likelihood == "ode"

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        denoise = make_spread(state.ema_params, labels_of(batch))
        x0 = to_model(batch["image"])
        if uses_ode:
            return by_ode.log_prob(
                mean_of(denoise),
                x0,
                path=path,
                num_levels=spec.num_levels,
                point_scale=method.point_scale,
                key=key,
                end=1.0 / method.num_timesteps,
            )
        bound = vlb.variational_bound(
            denoise,
            x0,
            path=path,
            num_timesteps=method.num_timesteps,
            num_levels=spec.num_levels,
            variance=sampler.variance,
            key=key,
            draws=config.eval.likelihood_timesteps,
        )
        if is_image:
            return -bound.nats
        # a density of points scales with the unit of the axes
        return -bound.nats - spec.shape[-1] * jnp.log(method.point_scale)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """loss_simple: not weighted, however it was trained."""
        x0, label = to_model(batch["image"]), labels_of(batch)
        terms = losses(state.ema_params, x0, label, key)
        values = {"loss_simple": terms["simple"]}
        return values | {"loss_vlb": terms["vlb"]} if learned else values

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind=by_ode.kind(spec.num_levels) if uses_ode else "lower_bound",
        likelihood_note=by_ode.note(spec.num_levels, labels=num_classes > 0)
        if uses_ode
        else likelihood_note(config),
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
            end=1.0 / method.num_timesteps,
        ),
        raw_weights=lambda state: state._replace(ema_params=state.params),
    )


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    one_of("model.backbone", config.model.backbone, ["unet", "dit", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    method, sampler = config.method, config.sampler
    one_of("method.schedule", method.schedule, ["linear", "cosine"])
    one_of("method.prediction", method.prediction, ["eps", "x0", "v"])
    one_of("method.variance", method.variance, ["fixed", "learned"])
    one_of("method.weighting", method.weighting, weighting.WEIGHTINGS)
    one_of("sampler.name", sampler.name, solvers.NAMES)
    one_of("sampler.spacing", sampler.spacing, times.SPACINGS)
    one_of("sampler.variance", sampler.variance, get_args(Variance))
    one_of("eval.likelihood", config.eval.likelihood, ["vlb", "ode"])
    if sampler.variance == "learned" and method.variance != "learned":
        raise UserError(
            "sampler.variance='learned' needs a model that was trained with "
            f"method.variance='learned', not {method.variance!r}: choose fixed_small "
            "or fixed_large"
        )
    if not 1 <= sampler.num_steps <= method.num_timesteps:
        raise UserError(
            f"sampler.num_steps must be in 1 ... {method.num_timesteps} "
            f"(method.num_timesteps), not {sampler.num_steps}"
        )
    least = {"eta": 0.0, "churn": 0.0, "snr": 0.0, "corrector_steps": 1}
    least["tolerance"] = 1e-7  # float32 has no more digits
    for name, value in least.items():
        if sampler[name] < value:
            raise UserError(
                f"sampler.{name} must be at least {value}, not {sampler[name]}"
            )
    if not method.min_snr_gamma > 0:
        raise UserError(
            f"method.min_snr_gamma must be more than 0, not {method.min_snr_gamma}"
        )
    if method.vlb_weight < 0:
        raise UserError(
            f"method.vlb_weight must be at least 0.0, not {method.vlb_weight}"
        )
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


def likelihood_note(config: Config) -> str:
    """How log_likelihood is taken, for the protocol of a metric."""
    draws = config.eval.likelihood_timesteps
    terms = "all terms" if draws is None else f"{draws} stratified timesteps an example"
    parts = [
        f"variational bound, T={config.method.num_timesteps}, {terms}",
        f"{config.sampler.variance}",
        "discretized Gaussian decoder, no dequantisation"
        if config.model.backbone != "mlp"
        else f"Gaussian decoder; log-det of the scale 1/{config.method.point_scale}",
        "x0 clipped" if config.sampler.clip else "x0 not clipped",
        "moving average of weights",
    ]
    if config.model.num_classes:
        parts.append("given the label")
    return "; ".join(parts)
