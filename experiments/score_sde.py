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
log-SNR, the latter is

  (3) 1/2 int E |eps - net|^2 dl,

and drawing l uniformly is the importance sampling of that paper's section 4.3.

The network sees x_t / sqrt(alpha^2 + sigma^2), of about unit variance, and t. (The
paper's sees x_t, and for VE log sigma, which is nearly a line in t.) Not the paper's is
`method.pixel_features`: the network also sees

  (4) (x_t - alpha v) / sigma, held between -FEATURE_LIMIT and FEATURE_LIMIT,

for v black, white, and the level nearest to x_t / alpha. It is eps itself where x0 = v.
Else a network must enlarge the small noise on a black pixel up to a thousand times.

With `method.classifier_width` a second network learns the class of x_t beside the
first, by its cross-entropy, and an unconditional model samples a class by

  (5) grad log p_t(x | y) = s(x, t) + scale grad log p_t(y | x)            (eq. 14)
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from genjax.axes import per_example
from genjax.choices import one_of
from genjax.diffusion import guidance, paths, solvers, times
from genjax.diffusion.conditioning import (
    check_guidance,
    check_labels,
    check_network,
)
from genjax.diffusion.continuous import antithetic_times
from genjax.diffusion.denoiser import Denoise, as_denoiser
from genjax.diffusion.likelihood import Likelihood, dequantize
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

FEATURE_LIMIT = 5.0  # eps is hardly ever larger


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params
    ema_params: Params
    opt_state: optax.OptState
    step: Array
    guide_params: Params | None = None  # the average at method.guide_step


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A score SDE on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, sampler = config.method, config.sampler
    is_image = spec.num_levels > 0

    model = config.model.to_dict()
    backbone = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}[model.pop("backbone")]
    model["dtype"] = jnp.dtype(model["dtype"])
    network = backbone(out_channels=spec.shape[-1], **model)
    num_classes = config.model.num_classes
    classifier = TimeMLP(spec.num_classes, width=max(method.classifier_width, 1))
    # classes that sampling may be asked for
    known_classes = spec.num_classes if sampler.classifier_scale else num_classes

    optim = config.optim.to_dict()
    ema_decay, accumulation = optim.pop("ema_decay"), optim.pop("accumulation")
    optimizer = make_optimizer(**optim)

    path = {
        "vp": lambda: paths.vp(method.beta_min, method.beta_max),
        "subvp": lambda: paths.subvp(method.beta_min, method.beta_max),
        "ve": lambda: paths.ve(method.sigma_min, method.sigma_max),
    }[method.sde]()

    feature_levels = spec.num_levels if method.pixel_features else 0

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
        """net(x_t, t) of (1)."""
        train = dropout_key is not None
        streams = {"dropout": dropout_key} if train else {}
        x = network_input(x, t, path=path, num_levels=feature_levels)
        out = network.apply({"params": params}, x, t, label, train=train, rngs=streams)
        assert isinstance(out, jax.Array)
        return out

    def class_log_probs(params: Params, x: Array, t: Array) -> Array:
        """(B, classes): log p_t(y | x_t). A plain MLP, so for images of few pixels."""
        x = network_input(x, t, path=path, num_levels=0).reshape(len(x), -1)
        out = classifier.apply({"params": params["classifier"]}, x, t)
        assert isinstance(out, jax.Array)
        return jax.nn.log_softmax(out)

    def init(key: Key) -> State:
        x, t = jnp.zeros((1, *spec.shape)), jnp.ones(1)
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        seen = network_input(x, t, path=path, num_levels=feature_levels)
        params = network.init(key, seen, t, label)["params"]
        if method.classifier_width:
            of_class = classifier.init(key, x.reshape(1, -1), t)["params"]
            params = {**params, "classifier": of_class}
        return State(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # its own memory: it is donated
            opt_state=optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            guide_params=jax.tree.map(jnp.copy, params) if method.guide_step else None,
        )

    # --- training ---------------------------------------------------------------------

    def weighted_error(
        params: Params, x0: Array, label: Array | None, key: Key, dropout_key=None
    ) -> Array:
        """The loss of each example, (B,): a mean over its dimensions."""
        t_key, eps_key = jax.random.split(key)
        t, weight = draw_times(
            t_key, len(x0), path=path, weighting=method.weighting, start=method.start
        )
        eps = jax.random.normal(eps_key, x0.shape)
        net = predict(params, path.diffuse(x0, eps, t), t, label, dropout_key)
        error = jnp.square(eps - net)
        return weight * jnp.mean(error, axis=tuple(range(1, error.ndim)))

    def class_error(params: Params, x0: Array, label: Array, key: Key) -> Array:
        """-log p_t(y | x_t) of each example, (B,), in nats, at times as above."""
        t_key, eps_key = jax.random.split(key)
        t, _ = draw_times(
            t_key, len(x0), path=path, weighting=method.weighting, start=method.start
        )
        xt = path.diffuse(x0, jax.random.normal(eps_key, x0.shape), t)
        log_probs = class_log_probs(params, xt, t)
        return -jnp.take_along_axis(log_probs, label[:, None], axis=1)[:, 0]

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        flip_key, pixel_key, label_key, noise_key, dropout_key = jax.random.split(
            key, 5
        )
        x0 = to_model(batch["image"])
        if method.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        if method.dequantize:
            x0 = dequantize(x0, spec.num_levels, pixel_key)
        label = None
        if num_classes:  # now and then no label: teaches the unconditional model too
            hidden = jax.random.bernoulli(label_key, method.label_dropout, (len(x0),))
            label = jnp.where(hidden, num_classes, batch["label"])
        loss = weighted_error(params, x0, label, noise_key, dropout_key).mean()
        if not method.classifier_width:
            return loss, {}
        class_key = jax.random.fold_in(noise_key, 1)
        class_loss = class_error(params, x0, batch["label"], class_key).mean()
        return loss + class_loss, {"class_loss": class_loss}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        (loss, metrics), grads = mean_gradients(
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
        norm = optax.tree.norm(grads)
        return state, {"loss": loss, "grad_norm": norm, **metrics}

    # --- what the model can do --------------------------------------------------------

    def make_denoiser(params: Params, label: Array | None) -> Denoise:
        """denoise(x, t) for these weights."""
        return as_denoiser(lambda x, t: predict(params, x, t, label), path, "eps")

    sampling_times = times.spaced(
        sampler.spacing, sampler.num_steps, path=path, end=method.start
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
        label_key, noise_key, solver_key = jax.random.split(key, 3)
        check_labels(label, num, known_classes)
        if known_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, known_classes)
        told = label if num_classes else None
        denoise = guidance.guided(
            make_denoiser(state.ema_params, told),
            null=make_denoiser(state.ema_params, jnp.full(num, num_classes)),
            guide=make_denoiser(state.guide_params, told),
            **guidance_options,
        )
        if sampler.classifier_scale and label is not None:  # (5)

            def log_prob(x: Array, t: Array) -> Array:
                t = jnp.broadcast_to(t, x.shape[:1])
                log_probs = class_log_probs(state.ema_params, x, t)
                return jnp.take_along_axis(log_probs, label[:, None], axis=1)[:, 0]

            scale = sampler.classifier_scale
            denoise = guidance.classifier(denoise, log_prob, scale, path=path)
        noise = jax.random.normal(noise_key, (num, *spec.shape))
        return solvers.sample_with(
            sampler.name,
            denoise,
            path.sigma(jnp.ones(())) * noise,
            sampling_times,
            path=path,
            key=solver_key,
            snr=sampler.snr,
            corrector_steps=sampler.corrector_steps,
            end=method.start,
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

    def labels_of(batch: Batch) -> Array | None:
        return batch["label"] if num_classes else None

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        return likelihood.log_prob(
            make_denoiser(state.ema_params, labels_of(batch)),
            to_model(batch["image"]),
            path=path,
            num_levels=spec.num_levels,
            point_scale=method.point_scale,
            key=key,
            end=method.start,
        )

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        x0 = to_model(batch["image"])
        values = weighted_error(state.ema_params, x0, labels_of(batch), key)
        return {f"loss_{method.weighting}": values}

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
            end=method.start,
        ),
        raw_weights=lambda state: state._replace(ema_params=state.params),
    )


# --- the method -----------------------------------------------------------------------


def network_input(
    x: Float[Array, " b *d"],
    t: Float[Array, " b"],
    *,
    path: GaussianPath,
    num_levels: int,
) -> Float[Array, " b *d2"]:
    """x_t divided by sqrt(alpha^2 + sigma^2), and (4) as more channels.

    num_levels: 0: without (4).
    """
    alpha, sigma = per_example(path.alpha(t), x), per_example(path.sigma(t), x)
    scaled = x / jnp.sqrt(jnp.square(alpha) + jnp.square(sigma))
    if num_levels == 0:
        return scaled
    last = num_levels - 1
    place = jnp.round((jnp.clip(x / alpha, -1.0, 1.0) + 1.0) / 2.0 * last)
    values = [-jnp.ones_like(x), jnp.ones_like(x), 2.0 * place / last - 1.0]
    away = [(x - alpha * value) / sigma for value in values]
    away = [jnp.clip(each, -FEATURE_LIMIT, FEATURE_LIMIT) for each in away]
    return jnp.concatenate([scaled, *away], axis=-1)


def draw_times(
    key: Key,
    num: int,
    *,
    path: GaussianPath,
    weighting: Literal["simple", "likelihood"],
    start: float,
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """Times between start and 1, and what E |eps - net|^2 is then to be weighted by.

    simple: t in equal strides from a random place, weight 1. likelihood: likewise the
    log-SNR l; then l(start) - l(1), over 2, makes the mean over draws the integral (3).
    """
    place = antithetic_times(key, num)
    if weighting == "simple":
        return start + (1.0 - start) * place, jnp.ones(())
    low, high = path.logsnr(jnp.ones(())), path.logsnr(jnp.asarray(start))
    return path.time(low + place * (high - low)), 0.5 * (high - low)


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, sampler = config.method, config.sampler
    one_of("model.backbone", config.model.backbone, ["unet", "dit", "mlp"])
    one_of("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    one_of("method.sde", method.sde, ["vp", "subvp", "ve"])
    one_of("method.weighting", method.weighting, ["simple", "likelihood"])
    one_of("sampler.name", sampler.name, solvers.NAMES)
    one_of("sampler.spacing", sampler.spacing, times.SPACINGS)
    for name, value in [
        ("method.beta_min", method.beta_min),
        ("method.sigma_min", method.sigma_min),
        ("method.point_scale", method.point_scale),
        ("sampler.num_steps", sampler.num_steps),
        ("sampler.snr", sampler.snr),
        ("sampler.corrector_steps", sampler.corrector_steps),
    ]:
        if not value > 0:
            raise UserError(f"{name} must be more than 0, not {value}")
    for name in ("beta", "sigma"):
        least, most = method[f"{name}_min"], method[f"{name}_max"]
        if not most > least:
            raise UserError(
                f"method.{name}_max={most} must be more than method.{name}_min={least}"
            )
    if not 0.0 < method.start < 1.0:
        raise UserError(
            f"method.start={method.start} must lie between 0 and 1: it is the time of "
            "the least noise in training"
        )
    if spec.num_levels == 0 and (method.dequantize or method.pixel_features):
        raise UserError(
            f"{spec.name} has points, not pixels: set method.dequantize=False and "
            "method.pixel_features=False"
        )
    check_network(
        spec,
        backbone=config.model.backbone,
        num_classes=config.model.num_classes,
        guidance_scale=sampler.guidance_scale,
    )
    if method.classifier_width < 0 or (
        method.classifier_width and not spec.num_classes
    ):
        raise UserError(
            f"method.classifier_width={method.classifier_width} must be 0, for no "
            f"classifier, or more for data with classes; {spec.name} has "
            f"{spec.num_classes}"
        )
    if sampler.classifier_scale and not method.classifier_width:
        raise UserError(
            f"sampler.classifier_scale={sampler.classifier_scale} needs a classifier "
            "of noisy examples: train with method.classifier_width > 0, or set "
            "classifier_scale=0.0"
        )
    check_guidance(
        interval=(sampler.guidance_min_t, sampler.guidance_max_t),
        rescale=sampler.guidance_rescale,
        autoguidance_scale=sampler.autoguidance_scale,
        guide_step=method.guide_step,
        num_steps=config.training.num_steps,
    )
