import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from genjax.training.sharding import make_mesh, state_shardings
from genjax.typing import UserError


def test_mesh_takes_all_devices():
    assert dict(make_mesh().shape) == {"data": 4, "fsdp": 1, "tensor": 1}
    assert dict(make_mesh(2).shape) == {"data": 2, "fsdp": 2, "tensor": 1}
    assert dict(make_mesh(2, 2).shape) == {"data": 1, "fsdp": 2, "tensor": 2}
    assert make_mesh(devices=jax.devices()[2:3]).devices.item() == jax.devices()[2]


@pytest.mark.parametrize("fsdp", [0, 3, 8])
def test_mesh_must_fit_the_devices(fsdp):
    with pytest.raises(UserError, match=f"divide the number of devices, 4.* {fsdp}"):
        make_mesh(fsdp)


@pytest.mark.parametrize("tensor", [0, 3, 4])
def test_the_tensor_axis_must_fit_what_fsdp_leaves(tensor):
    with pytest.raises(UserError, match=f"mesh.tensor .* over fsdp=2, 2, .* {tensor}"):
        make_mesh(2, tensor)


def test_fsdp_takes_an_axis_that_tensor_leaves():
    rules = (("first/kernel", P(None, "tensor")), ("bias", P("tensor")))
    shapes = {"first": {"kernel": (128, 256), "bias": (256,)}, "k": (128, 256)}
    tree = jax.eval_shape(lambda: jax.tree.map(jnp.zeros, shapes, is_leaf=is_shape))
    found = state_shardings(tree, make_mesh(2, 2), rules)
    assert jax.tree.map(lambda s: s.spec, found) == {
        "first": {"kernel": P("fsdp", "tensor"), "bias": P("tensor")},
        "k": P(None, "fsdp"),
    }


def specs(tree, fsdp, rules=()):
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.zeros, tree, is_leaf=is_shape))
    shardings = state_shardings(shapes, make_mesh(fsdp), rules)
    return jax.tree.map(lambda s: s.spec, shardings)


def is_shape(node):
    return isinstance(node, tuple)


def test_large_leaves_are_split_on_their_largest_divisible_axis():
    tree = {"a": (3, 8192), "b": (9, 9999), "small": (2, 2), "c": (16384,)}
    assert specs(tree, 1) == dict.fromkeys(tree, P())
    wanted = {"a": P(None, "fsdp"), "b": P(), "small": P(), "c": P("fsdp")}
    assert specs(tree, 2) == wanted


def test_rules_win_in_their_order():
    rules = (("head/kernel", P("data")), ("kernel", P(None, "fsdp")))
    tree = {"head": {"kernel": (4, 4)}, "body": {"kernel": (4, 4), "bias": (4,)}}
    assert specs(tree, 2, rules) == {
        "head": {"kernel": P("data")},
        "body": {"kernel": P(None, "fsdp"), "bias": P()},
    }


def test_a_rule_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"axis 1 of w in 2 parts.*\(4, 3\)"):
        specs({"w": (4, 3)}, 2, (("w", P(None, "fsdp")),))
    with pytest.raises(UserError, match="axis 2 of w"):
        specs({"w": (4, 4)}, 2, (("w", P(None, None, "fsdp")),))
