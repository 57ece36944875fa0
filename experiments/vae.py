"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114) and IWAE.

An encoder gives a Gaussian q(z|x) over codes, a decoder p(x|z), and p(z) = N(0, I).
Training raises one of the bounds on log p(x) of `genjax.objectives.elbo`, written per
image in nats:

  elbo   (1)  E_q[log p(x|z)] - beta KL(q(z|x) || p(z)), a mean over k draws of z
  iwae   (3)  log of the mean of k importance weights (Burda et al. 2016)
  dreg   (3)  the same with the gradient (4) (Tucker et al. 2019)

The log-likelihood is (3) with `eval.importance_samples` draws. Binary pixels are drawn
anew from the grey ones at each step ("dynamic binarisation"), and once for each test
image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax.choices import images_only, no_labels, one_of
from genjax.distributions import standard_normal_kl
from genjax.experiment import Experiment
from genjax.models.vae import GaussianEncoder, PixelDecoder
from genjax.objectives import elbo, pixels
from genjax.train.optim import make_optimizer, maximize
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

    params: Params  # {"encoder", "decoder"}
    opt_state: optax.OptState
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A VAE on images. Raises UserError for a choice that does not exist."""
    check(config, spec)
    method = config.method
    top_level = spec.num_levels - 1
    binary = method.likelihood == "bernoulli"

    model = config.model.to_dict()
    latent_dim = model.pop("latent_dim")
    likelihood = pixels.family(method.likelihood, spec.num_levels)
    encoder = GaussianEncoder(latent_dim, **model)
    decoder = PixelDecoder(spec.shape, spread=likelihood.spread, **model)
    optimizer = make_optimizer(**config.optim)

    # --- data and networks ------------------------------------------------------------

    def to_model(image: Array, key: Key) -> Array:
        """Pixels in [0, 1]; for binary pixels a draw with the grey as probability."""
        grey = image.astype(jnp.float32) / top_level
        if binary:
            return jax.random.bernoulli(key, grey).astype(jnp.float32)
        return grey

    def to_data(x: Array) -> Array:
        return jnp.round(x * top_level).astype(jnp.uint8)

    def encode_to(params: Params, x: Array) -> tuple[Array, Array]:
        """(mean, logvar) of q(z|x), each (B, D)."""
        return encoder.apply({"params": params["encoder"]}, x)  # pyright: ignore

    def decode_from(params: Params, z: Array) -> Array:
        """What p(x|z) is made of, (*batch, H, W, O), for z (*batch, D)."""
        out = decoder.apply({"params": params["decoder"]}, z)
        assert isinstance(out, jax.Array)
        return out

    def init(key: Key) -> State:
        encoder_key, decoder_key = jax.random.split(key)
        x, z = jnp.zeros((1, *spec.shape)), jnp.zeros((1, latent_dim))
        params = {
            "encoder": encoder.init(encoder_key, x)["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
        }
        return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    # --- training ---------------------------------------------------------------------

    def elbo_loss(
        params: Params, x: Array, z_key: Key, step: Array
    ) -> tuple[Array, Metrics]:
        """(1) with beta, its warm-up and free bits."""
        mean, logvar = encode_to(params, x)
        z = elbo.reparameterize(z_key, mean, logvar, method.num_samples)
        log_px = likelihood.log_prob(x[None], decode_from(params, z))  # (k, B)
        kl = standard_normal_kl(mean, logvar)  # (B, D)
        beta = method.beta * jnp.minimum((step + 1) / (method.beta_warmup_steps + 1), 1)
        charged = elbo.free_bits(kl, method.free_bits).sum()
        reconstruction, kl = -log_px.mean(), kl.sum(axis=-1).mean()
        loss = reconstruction + beta * charged
        return loss, {
            "elbo": -reconstruction - kl,
            "reconstruction_nats": reconstruction,
            "kl_nats": kl,
            "beta": jnp.asarray(beta, jnp.float32),
        }

    def iwae_loss(
        params: Params, x: Array, z_key: Key, step: Array
    ) -> tuple[Array, Metrics]:
        """(3), with its plain gradient."""
        q = encode_to(params, x)
        z = elbo.reparameterize(z_key, *q, method.num_samples)
        log_px = likelihood.log_prob(x[None], decode_from(params, z))
        weights = elbo.log_weights(log_px, z, *q)
        bound = elbo.importance_bound(weights).mean()
        return -bound, {"iwae_bound": bound, "elbo": weights.mean()}

    def dreg_loss(
        params: Params, x: Array, z_key: Key, step: Array
    ) -> tuple[Array, Metrics]:
        """(3), with the gradient (4) for the encoder."""
        q = encode_to(params, x)
        z = elbo.reparameterize(z_key, *q, method.num_samples)
        fixed = jax.lax.stop_gradient(q)

        def log_weights(z: Array) -> Array:
            log_px = likelihood.log_prob(x[None], decode_from(params, z))
            return elbo.log_weights(log_px, z, *fixed)

        weights = log_weights(z)  # XLA computes it once, here and in the surrogate
        bound = elbo.importance_bound(weights).mean()
        metrics = {"iwae_bound": bound, "elbo": weights.mean()}
        return -elbo.dreg_surrogate(log_weights, z).mean(), metrics

    objective = {"elbo": elbo_loss, "iwae": iwae_loss, "dreg": dreg_loss}
    objective = objective[method.objective]

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        (loss, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, x, z_key, state.step
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(params, opt_state, state.step + 1), metrics

    # --- what the model can do --------------------------------------------------------

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """Images of z ~ N(0, I): the mean of p(x|z), or a draw of its pixels."""
        no_labels(label)
        z_key, pixel_key = jax.random.split(key)
        out = decode_from(state.params, jax.random.normal(z_key, (num, latent_dim)))
        if config.sampler.draw_pixels:
            return to_data(likelihood.draw(pixel_key, out))
        return to_data(likelihood.mean(out))

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        q = encode_to(state.params, x)
        return importance_bound(state, x, q, z_key, likelihood.log_mass)

    def importance_bound(
        state: State, x: Array, q: tuple[Array, Array], key: Key, log_px_of
    ) -> Array:
        """(3) with many samples of q = (mean, logvar), for the given p(x|z)."""

        def log_weights(key: Key, num: int) -> Array:
            z = elbo.reparameterize(key, *q, num)
            log_px = log_px_of(x[None], decode_from(state.params, z))
            return elbo.log_weights(log_px, z, *q)

        return elbo.importance_log_likelihood(
            log_weights, key, num_samples=config.eval.importance_samples, chunk=50
        )

    def gaps(state: State, x: Array, key: Key) -> Metrics:
        """What the encoder's answer loses, and what any diagonal Gaussian does.

        The posterior of each image is refined from the encoder's answer by gradient
        (semi-amortised); with log p(x) by importance samples of the refined one,
        log p(x) - ELBO = (log p(x) - refined ELBO) + (refined ELBO - ELBO): the
        approximation gap and the amortisation gap (Cremer et al. 2018,
        arXiv:1801.03558).
        """
        refine_key, elbo_key, weight_key = jax.random.split(key, 3)

        def bound(q: tuple[Array, Array], key: Key, num: int) -> Array:
            z = elbo.reparameterize(key, *q, num)
            log_px = likelihood.log_mass(x[None], decode_from(state.params, z))
            return log_px.mean(axis=0) - standard_normal_kl(*q).sum(axis=-1)

        amortized = encode_to(state.params, x)
        refined = maximize(
            lambda q, key: bound(q, key, 10),
            amortized,
            refine_key,
            learning_rate=config.eval.refine_learning_rate,
            num_steps=config.eval.refine_steps,
        )
        before = bound(amortized, elbo_key, 100)
        after = bound(refined, elbo_key, 100)
        log_px = importance_bound(state, x, refined, weight_key, likelihood.log_mass)
        return {
            "elbo_amortized": before,
            "elbo_refined": after,
            "amortization_gap": after - before,
            "approximation_gap": log_px - after,
            "inference_gap": log_px - before,
        }

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """The two terms of (1); a density where that is what training raises; gaps."""
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        mean, logvar = encode_to(state.params, x)
        z = elbo.reparameterize(z_key, mean, logvar, 1)
        out = decode_from(state.params, z)
        log_px = likelihood.log_prob(x[None], out)[0]
        kl = standard_normal_kl(mean, logvar).sum(axis=-1)
        grey = batch["image"].astype(jnp.float32) / top_level
        error = jnp.square(likelihood.mean(decode_from(state.params, mean)) - grey)
        values = {
            "elbo": log_px - kl,
            "reconstruction_nats": -log_px,
            "kl_nats": kl,
            "squared_error": error.sum(axis=(1, 2, 3)),
        }
        if method.likelihood == "gaussian":
            values["log_density"] = importance_bound(
                state, x, (mean, logvar), z_key, likelihood.log_prob
            )
        if config.eval.refine_steps:
            values |= gaps(state, x, z_key)
        return values

    def encode(state: State, batch: Batch, key: Key) -> Array:
        """The mean of q(z|x)."""
        return encode_to(state.params, to_model(batch["image"], key))[0]

    def decode(state: State, code: Array, key: Key) -> Array:
        """The mean of p(x|z)."""
        return to_data(likelihood.mean(decode_from(state.params, code)))

    def images(state: State, batch: Batch, key: Key) -> dict[str, Array]:
        """Each test image and its reconstruction, side by side."""
        seen = to_data(to_model(batch["image"], key))
        again = decode(state, encode(state, batch, key), key)
        pairs = jnp.stack([seen, again], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_of="binarized" if binary else "data",
        likelihood_note=f"L_{config.eval.importance_samples} (importance sampling); "
        f"{likelihood.note}",
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        images=images,
    )


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method = config.method
    one_of("model.backbone", config.model.backbone, ["dense", "conv"])
    one_of("method.likelihood", method.likelihood, pixels.NAMES)
    one_of("method.objective", method.objective, ["elbo", "iwae", "dreg"])
    images_only("the VAE", spec)
    if method.num_samples < 1 or config.eval.importance_samples < 1:
        raise UserError(
            "method.num_samples and eval.importance_samples must be at least 1, not "
            f"{method.num_samples} and {config.eval.importance_samples}"
        )
    plain = method.beta == 1.0 and method.free_bits == 0.0
    if method.objective != "elbo" and not (plain and method.beta_warmup_steps == 0):
        raise UserError(
            "method.beta, beta_warmup_steps and free_bits change the ELBO, and "
            f"method.objective={method.objective!r} has no KL of its own: set them to "
            "1.0, 0 and 0.0, or choose 'elbo'"
        )
