"""Flow matching, or rectified flow: a network learns the velocity of straight lines.

Lipman et al. 2023 (arXiv:2210.02747) and Liu et al. 2023 (arXiv:2209.03003). A datum x0
and noise eps are joined by a line. Here t = 0 is data and t = 1 noise; both papers let
t run the other way, from noise to data.

  (1) x_t = (1 - t) x0 + t eps
  (2) d x_t / dt = eps - x0

The network is fitted to (2) at x_t, by the mean squared error over dimensions (Lipman
et al., eq. 23 with sigma_min = 0), so it learns the mean velocity E[eps - x0 | x_t].
The ODE dx/dt = E[eps - x0 | x_t = x], run from noise at t = 1 back to t = 0, gives
samples.

What may vary: how t is drawn (`draw_times`), which eps meets which x0 (`couple`), and
what the error weighs at each t (`genjax.diffusion.weighting`).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from genjax.choices import one_of
from genjax.diffusion import guidance, paths, solvers, weighting
from genjax.diffusion.conditioning import (
    check_guidance,
    check_labels,
    check_network,
)
from genjax.diffusion.denoiser import Denoise, as_denoiser, quantity
from genjax.diffusion.likelihood import Likelihood
from genjax.diffusion.ode import velocity
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

PATH = paths.rectified_flow()


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params
    ema_params: Params
    opt_state: optax.OptState
    step: Array
    guide_params: Params | None = None  # the average at method.guide_step


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """Flow matching on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    network = backbone(out_channels=spec.shape[-1], **model)
    num_classes = config.model.num_classes

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

    def predict(
        params: Params, x: Array, t: Array, label: Array | None, dropout_key=None
    ) -> Array:
        """What the network says of x_t: an estimate of the velocity."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
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
            guide_params=jax.tree.map(jnp.copy, params) if method.guide_step else None,
        )

    # --- training ---------------------------------------------------------------------

    def velocity_error(
        params: Params,
        x0: Array,
        eps: Array,
        t: Array,
        label: Array | None,
        dropout_key=None,
    ) -> Array:
        """The loss of each example, (B,): a mean over its dimensions."""
        target = quantity(x0, eps, t, path=PATH, name="velocity")  # (2)
        xt = PATH.diffuse(x0, eps, t)  # (1)
        error = jnp.square(target - predict(params, xt, t, label, dropout_key))
        return jnp.mean(error, axis=tuple(range(1, error.ndim)))

    time_options = {
        "distribution": method.time_distribution,
        "mean": method.time_mean,
        "std": method.time_std,
        "shift": method.time_shift,
    }

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        flip_key, label_key, t_key, eps_key, dropout_key = jax.random.split(key, 5)
        x0 = to_model(batch["image"])
        if method.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        eps = jax.random.normal(eps_key, x0.shape)
        label = batch["label"] if num_classes else None
        if method.coupling == "optimal_transport":
            eps = couple(x0, eps, label)
        if label is not None:  # now and then none: teaches the unconditional model too
            hidden = jax.random.bernoulli(label_key, method.label_dropout, (len(x0),))
            label = jnp.where(hidden, num_classes, label)
        t = draw_times(t_key, len(x0), **time_options)
        weight = weighting.weight(
            method.weighting,
            t,
            path=PATH,
            prediction="velocity",
            min_snr_gamma=method.min_snr_gamma,
            sigmoid_bias=method.sigmoid_bias,
        )
        error = velocity_error(params, x0, eps, t, label, dropout_key)
        return (weight * error).mean(), {}

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
        return as_denoiser(
            lambda x, t: predict(params, x, t, label), PATH, prediction="velocity"
        )

    grid = jnp.linspace(1.0, 0.0, sampler.num_steps + 1)
    sampling_times = shift_times(grid, sampler.time_shift)

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
        label_key, noise_key, solver_key = jax.random.split(key, 3)
        check_labels(label, num, num_classes)
        if num_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, num_classes)
        denoise = guidance.guided(
            make_denoiser(state.ema_params, label),
            null=make_denoiser(state.ema_params, jnp.full(num, num_classes)),
            guide=make_denoiser(state.guide_params, label),
            **guidance_options,
        )
        x = jax.random.normal(noise_key, (num, *spec.shape))
        return solvers.sample_with(
            sampler.name,
            denoise,
            x,
            sampling_times,
            path=PATH,
            key=solver_key,
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
            path=PATH,
            num_levels=spec.num_levels,
            point_scale=method.point_scale,
            key=key,
        )

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """loss_velocity: with independent eps and uniform t, however it was trained.

        Of points path_energy too, which is the smaller the straighter the paths.
        """
        t_key, eps_key = jax.random.split(key)
        x0, label = to_model(batch["image"]), batch["label"] if num_classes else None
        eps, t = jax.random.normal(eps_key, x0.shape), draw_times(t_key, len(x0))
        values = velocity_error(state.ema_params, x0, eps, t, label)
        if is_image:
            return {"loss_velocity": values}
        energy = path_energy(make_denoiser(state.ema_params, label), eps)
        return {"loss_velocity": values, "path_energy": energy}

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
            path=lambda state: PATH,
            times=sampling_times,
            to_model=to_model,
            to_data=to_data,
            is_image=is_image,
            num_classes=num_classes,
        ),
        raw_weights=lambda state: state._replace(ema_params=state.params),
    )


# --- the method -----------------------------------------------------------------------


def draw_times(
    key: Key,
    num: int,
    *,
    distribution: Literal["uniform", "logit_normal"] = "uniform",
    mean: float = 0.0,
    std: float = 1.0,
    shift: float = 1.0,
) -> Float[Array, " n"]:
    """Times in (0, 1) for training, moved towards the noise if shift > 1.

    "logit_normal": log(t / (1 - t)) ~ N(mean, std^2), so that the middle of the way is
    seen most (Esser et al. 2024, arXiv:2403.03206, section 3.1; t = 0 is data there as
    here). mean > 0 leans towards the noise.
    """
    if distribution == "uniform":
        t = jax.random.uniform(key, (num,))
    else:
        t = jax.nn.sigmoid(mean + std * jax.random.normal(key, (num,)))
    return shift_times(t, shift)


def shift_times(t: Float[Array, " n"], shift: float) -> Float[Array, " n"]:
    """The odds t / (1 - t) times shift: t becomes shift t / (1 + (shift - 1) t).

    Esser et al. 2024 (arXiv:2403.03206, eq. 23), whose sqrt(m / n) is shift: larger
    images need more noise to hide as much.
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def couple(
    x0: Float[Array, " b *d"],
    eps: Float[Array, " b *d"],
    label: Int[Array, " b"] | None = None,
) -> Float[Array, " b *d"]:
    """The rows of eps, so ordered that the sum of |x0_i - eps_i|^2 is the smallest.

    Minibatch optimal transport (Tong et al. 2024, arXiv:2302.00482, algorithm 3), by
    the exact assignment: lines cross less, so paths are straighter. Each x0 keeps its
    place. Given labels, rows change places within a class only, so that noise is N(0,
    I) for each class as it is when sampling. The time grows with the cube of the batch,
    one small operation after another: 2 ms for 64 rows on a CPU core, 70 ms for 256.
    """
    num = len(x0)
    # |x - e|^2 without the squares, which are the same for every order
    cost = -x0.reshape(num, -1) @ eps.reshape(num, -1).T
    if label is not None:
        forbidden = num * jnp.max(jnp.abs(cost))  # more than any order within classes
        cost = jnp.where(label[:, None] == label[None, :], cost, cost + forbidden)
    rows, columns = optax.assignment.hungarian_algorithm(cost)
    return eps[jnp.zeros(num, columns.dtype).at[rows].set(columns)]


def path_energy(
    denoise: Denoise, x: Float[Array, " b *d"], num_steps: int = 100
) -> Float[Array, " b"]:
    """The integral of |dx/dt|^2 over the way of each noise x to data, by Euler's steps.

    Its mean is at least the squared Wasserstein-2 distance of noise and data, and equal
    where the flow is the optimal transport (Benamou & Brenier 2000): straight paths
    that do not cross.
    """
    flow = velocity(denoise, PATH)

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        v = flow(x, t)
        return x - v / num_steps, jnp.sum(jnp.square(v), axis=range(1, v.ndim))

    times = jnp.linspace(1.0, 0.0, num_steps + 1)[:-1]
    return jnp.mean(jax.lax.scan(step, x, times)[1], axis=0)


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, sampler = config.method, config.sampler
    one_of("model.backbone", config.model.backbone, ["unet", "dit", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    one_of(
        "method.time_distribution",
        method.time_distribution,
        ["uniform", "logit_normal"],
    )
    one_of("method.coupling", method.coupling, ["independent", "optimal_transport"])
    one_of("method.weighting", method.weighting, weighting.WEIGHTINGS)
    one_of("sampler.name", sampler.name, solvers.NAMES)
    for name, value in [
        ("sampler.num_steps", sampler.num_steps),
        ("method.time_shift", method.time_shift),
        ("sampler.time_shift", sampler.time_shift),
        ("method.time_std", method.time_std),
        ("method.min_snr_gamma", method.min_snr_gamma),
        ("method.point_scale", method.point_scale),
    ]:
        if not value > 0:
            raise UserError(f"{name} must be more than 0, not {value}")
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
