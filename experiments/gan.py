"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

A generator g makes samples g(z) of noise z ~ N(0, I); a discriminator, or critic, gives
each example a logit t(x), high for data. In turn each lowers its own loss
(`genjax.objectives.adversarial`), each time on new data and noise:

  (1) the discriminator, `method.critic_steps` times a step, on the mean of
      loss.discriminator(t(x), t(g(z))) + penalty.weight * penalty
  (2) the generator, once, on the mean of loss.generator(t(x), t(g(z)))

What may vary: the networks, the loss, the penalty on the discriminator's gradient,
clipped weights (Arjovsky et al. 2017, arXiv:1701.07875), how many examples it sees side
by side (PacGAN, arXiv:1712.04086), and what is done to them before (`config.augment`).
Samples come from the generator's moving average. `training.batch_size` counts all
examples of a step: each turn of the discriminator has its share, in whole packs.

With labels (`model.num_classes`) both networks are given the class. A sample then has
the label of the datum beside it: a point between the two is of one class.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax import labels
from genjax.augment.seen import Augment
from genjax.experiment import Code, Experiment
from genjax.fields import Count, Positive
from genjax.inputs import Inputs
from genjax.models.adversary import Model, Pair, make_pair
from genjax.objectives.adversarial import LOSSES, LossName, NoiseSampler, Penalty
from genjax.state import TrainState, raw
from genjax.training.learner import Learner, Optim
from genjax.training.microbatch import grouped, in_turn, ungrouped
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params

Data = tuple[Array, Array | None]  # (x, label), one row for an example
Packs = tuple[Array, Array, Array | None]  # (data, samples, label), one row for a pack


class State(NamedTuple):
    """Everything that a restart needs, of the generator and of the discriminator."""

    g: TrainState
    d: TrainState
    augment_p: Array  # of augment.kind="ada": the probability of a change


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the papers leave open."""

    loss: LossName = "non_saturating"  # loss of both players
    penalty: Penalty = Penalty()  # on the discriminator's gradient in its input
    critic_steps: Count = 1  # discriminator updates per step, each on its own data
    packing: Count = 1  # examples that the discriminator sees side by side
    clip_weights: Positive | None = None  # largest discriminator weight; 0.01 in WGAN
    d_learning_rate: Positive | None = None  # of the discriminator; None: optim's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model
    method: Method = Method()
    augment: Augment = Augment()
    inputs: Inputs = Inputs(label_dropout=0.0)
    optim: Optim = Optim(b1=0.5, ema_decay=0.999)
    sampler: NoiseSampler = NoiseSampler()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The players, what each is after and how it learns."""

    pair: Pair
    g_learner: Learner
    d_learner: Learner
    method: Method = Method()
    augment: Augment = Augment()

    def noise(self, key: Key, data: Data) -> Array:
        """The generator's, for as many as there are data."""
        return jax.random.normal(key, (len(data[0]), self.pair.latent_dim))


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A GAN on images or points. Raises UserError for what does not fit."""
    method, inputs = config.method, config.inputs.always_labelled()
    scale, slopes = inputs.scale(spec), method.penalty.name != "none"
    sees = {"packing": method.packing, "parts": config.optim.accumulation}
    pair = make_pair(spec, slopes=slopes, **sees, **config.model)
    game = Game(
        pair=pair,
        g_learner=config.optim.learner(),
        d_learner=config.optim.opponent(method.critic_steps, method.d_learning_rate),
        method=method,
        augment=config.augment.fitting(spec),
    )

    def init(key: Key) -> State:
        g_key, d_key = jax.random.split(key)
        g = game.g_learner.init(*pair.generator.init(g_key))
        d = game.d_learner.init(*pair.discriminator.init(d_key))
        return State(g, d, jnp.zeros(()))

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        input_key, d_key, g_key = jax.random.split(key, 3)
        data = inputs(input_key, batch, scale, pair.num_classes)
        return play(game, state, data, d_key, g_key)

    def prior(key: Key, num: int) -> Array:
        return config.sampler(key, num, pair.latent_dim)

    def decode(state: State, z: Array, key: Key, label: Array | None = None) -> Array:
        return scale.to_data(pair.generator(*state.g.averaged, z, label))

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        z_key, label_key = jax.random.split(key)
        label = labels.asked_for(label_key, label, num, pair.num_classes)
        return decode(state, prior(z_key, num), key, label)

    def discriminate(state: State, data: Array) -> Array:
        return pair.discriminator(*state.d.averaged, scale.to_model(data))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Logits of test data and of samples of their labels: equal at the optimum."""
        x = scale.to_model(batch["image"])
        label = labels.of_batch(batch, pair.num_classes)
        z = game.noise(key, (x, label))
        fake = pair.generator(*state.g.averaged, z, label)
        both, d = {"test_logit": x, "sample_logit": fake}, state.d.averaged
        return {name: pair.discriminator(*d, x, label) for name, x in both.items()}

    alone, free = not pair.sees_several, not pair.num_classes  # of others, of labels
    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        code=Code(decode=decode, prior=prior) if free else None,
        evaluate=evaluate if alone else None,
        discriminate=discriminate if alone and free else None,
        raw_weights=game.g_learner.raw and (lambda s: s._replace(g=raw(s.g))),
    )


# --- training -------------------------------------------------------------------------


def play(
    game: Game, state: State, data: Data, d_key: Key, g_key: Key
) -> tuple[State, Metrics]:
    """One step: (1) in turn, each on a part of the data, then (2) on the last part.

    Raises UserError if the data do not divide into whole packs for the turns.
    """
    turns, by = game.method.critic_steps, "method.critic_steps * method.packing"
    parts = in_turn(data, turns, by=by, unit=game.method.packing)
    d_keys, turn = jax.random.split(d_key, turns), functools.partial(d_step, game)
    state, of_turns = jax.lax.scan(turn, state, (parts, d_keys))
    data = jax.tree.map(lambda rows: rows[-1], parts)
    z_key, seen_key = jax.random.split(g_key)
    rows = grouped((data, game.noise(z_key, data)), game.method.packing)
    loss = functools.partial(g_loss, game, state)
    g, descent, _ = game.g_learner.descend(loss, state.g, rows, seen_key)
    metrics = jax.tree.map(jnp.mean, of_turns)  # a bad turn spoils the mean
    return state._replace(g=g), metrics | descent.metrics("g_", loss="g_loss")


def d_step(game: Game, state: State, part: tuple[Data, Key]) -> tuple[State, Metrics]:
    """The state after one turn of the discriminator, on (data, key)."""
    (data, key), augment, limit = part, game.augment, game.method.clip_weights
    z_key, seen_key, penalty_key = jax.random.split(key, 3)
    z = game.noise(z_key, data)
    packs, _ = see(game, state.g.params, state, data, z, seen_key)
    d, descent, (t_real, undecided, metrics) = game.d_learner.descend(
        functools.partial(d_loss, game, state), state.d, packs, penalty_key
    )
    if limit is not None:
        d = d._replace(params=optax.tree.clip(d.params, -limit, limit))
    metrics |= descent.metrics("d_")
    if augment.kind != "ada":
        return state._replace(d=d), metrics
    p = augment.next_p(state.augment_p, t_real - undecided, num_images=len(data[0]))
    return State(state.g, d, p), metrics | {"augment_p": p}


def d_loss(
    game: Game, state: State, d_params: Params, packs: Packs, key: Key
) -> tuple[Array, tuple[Params, Any]]:
    """(1): (loss, (new statistics, (logits of data, the undecided logit, metrics)))."""
    loss, penalty = LOSSES[game.method.loss], game.method.penalty
    (real, fake, label), d, stats = packs, game.pair.discriminator, state.d.stats
    t_real, new_stats = d.train(d_params, stats, real, label)
    t_fake, new_stats = d.train(d_params, new_stats, fake, label)
    value = loss.discriminator(t_real, t_fake).mean()

    def critic(x: Array) -> Array:
        return d.train(d_params, stats, x, label)[0]

    slope = penalty(critic, real, fake, key, turn=state.d.step)
    metrics = {"logit_real": t_real.mean(), "logit_fake": t_fake.mean()}
    metrics |= {"d_loss": value, "penalty": slope}
    total = value + penalty.weight_at(state.g.step) * slope
    return total, (new_stats, (t_real, loss.undecided(t_real, t_fake), metrics))


def g_loss(
    game: Game, state: State, g_params: Params, rows: tuple[Data, Array], key: Key
) -> tuple[Array, tuple[Params, None]]:
    """(2), of packs of data and noise: (loss, (new statistics, None))."""
    (data, z), d, of = ungrouped(rows), game.pair.discriminator, state.d
    (real, fake, label), stats = see(game, g_params, state, data, z, key)
    t_real, t_fake = (d.train(of.params, of.stats, x, label)[0] for x in (real, fake))
    return LOSSES[game.method.loss].generator(t_real, t_fake).mean(), (stats, None)


def see(
    game: Game, g_params: Params, state: State, data: Data, z: Array, key: Key
) -> tuple[Packs, Params]:
    """What the discriminator sees, and the generator's new statistics."""
    (x, label), pair, packing = data, game.pair, game.method.packing
    fake, stats = pair.generator.train(g_params, state.g.stats, z, label)
    packs = game.augment.seen(key, x, fake, state.augment_p, packing=packing)
    return (*packs, label), stats
