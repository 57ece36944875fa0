"""A generator and its discriminator by name, and the fields of config.model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import fields
from genjax.models.adversary import BACKBONES, make_pair
from genjax.models.adversary import fields as fields_of_model
from genjax.typing import UserError
from tests.specs import of_images

KEY = jax.random.key(0)
IMAGES = of_images("images", (16, 16, 1), 10, num_levels=17)
SMALL = {
    "mlp": {"g_widths": (8,), "d_widths": (8,)},
    "dcgan": {"g_channels": 8, "d_channels": 8},
    "sngan": {"g_channels": 8, "d_channels": 8},
    "r3gan": {"widths": (8, 8), "blocks": (1, 1), "group_size": 8},
}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("num_classes", [0, 10])
def test_its_own_fields_make_every_pair(backbone, num_classes):
    stated = {"backbone": backbone, "latent_dim": 4, "num_classes": num_classes}
    stated |= SMALL[backbone]
    found = fields_of_model(stated)
    assert all(field.meaning for field in found.values())
    whole = {k: stated.get(k, f.default) for k, f in found.items()}
    assert fields.REQUIRED not in whole.values() and not set(stated) - set(whole)
    pair = make_pair(IMAGES, **whole)
    label = jnp.zeros(3, jnp.int32) if num_classes else None

    def play(key):
        x, g_stats = pair.generator.train(
            *pair.generator.init(key), jnp.zeros((3, 4)), label
        )
        logits, d_stats = pair.discriminator.train(
            *pair.discriminator.init(key), x, label
        )
        return x, logits

    x, logits = jax.eval_shape(play, KEY)
    assert x.shape == (3, 16, 16, 1) and logits.shape == (3,)


def test_shared_fields_go_to_both_and_the_others_to_one():
    model = {"backbone": "mlp", "latent_dim": 2, "g_widths": (3,), "d_widths": (5,)}
    pair = make_pair(IMAGES, **model, activation="linear")
    (g, _), (d, _) = pair.generator.init(KEY), pair.discriminator.init(KEY)
    assert g["mlp"]["hidden0"]["kernel"].shape == (2, 3)
    assert d["mlp"]["hidden0"]["kernel"].shape == (256, 5)
    x = jax.random.normal(KEY, (4, 16, 16, 1))
    sums = pair.discriminator(d, {}, x) + pair.discriminator(d, {}, -x)
    np.testing.assert_allclose(sums, 0.0, atol=1e-5)  # linear, biases of 0


def test_who_sees_several():
    model = {"backbone": "dcgan", "latent_dim": 2, **SMALL["dcgan"]}
    assert not make_pair(IMAGES, **model).sees_several
    assert make_pair(IMAGES, **model, packing=2).sees_several
    assert make_pair(IMAGES, **model, d_minibatch_std=True).sees_several


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backbone": "dcgn"}, "did you mean 'dcgan'"),
        ({"num_classes": 3}, "images has 10 classes"),
        ({"num_classes": 10, "packing": 2}, "several classes side by side"),
        ({"slopes": True}, "model.d_norm='batch' lets its logit depend on the others"),
    ],
)
def test_pairs_that_do_not_fit(options, message):
    model = {"backbone": "dcgan", "latent_dim": 2, **SMALL["dcgan"]}
    with pytest.raises(UserError, match=message):
        make_pair(IMAGES, **(model | options))


def test_a_size_that_cannot_be_halved():
    odd = dataclasses.replace(IMAGES, name="odd", shape=(9, 9, 1))
    with pytest.raises(UserError, match="does not fit odd"):
        make_pair(odd, backbone="dcgan", latent_dim=2)
