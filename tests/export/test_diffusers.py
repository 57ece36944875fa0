"""DDPM's U-Net as diffusers stores it, against what diffusers computes.

unet2d/ was written by diffusers 0.42.1 with torch 2.13.0 on a CPU: a UNet2DModel of
google/ddpm-cifar10-32's structure with 8, 16 and 16 channels in 4 groups, random
weights in float16, and its outputs in float32 at six steps (outputs.npz).
cifar10_32.txt lists the names and shapes of the published size.
"""

import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import genjax
import launch
from genjax import configs
from genjax.export import diffusers
from genjax.models.backbone import make_network
from genjax.models.unet import UNet
from genjax.run import Run
from genjax.training.checkpoint import tree
from genjax.typing import UserError

SOURCE = Path(__file__).parent / "unet2d"
CONFIG = Path(__file__).parents[2] / "configs" / "ddpm_digits.py"


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Run:
    workdir = tmp_path_factory.mktemp("import") / "run"
    return genjax.from_diffusers(SOURCE, str(CONFIG), workdir)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The folder, to be changed."""
    return Path(shutil.copytree(SOURCE, tmp_path / "copy"))


def change(folder: Path, **options) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


def outputs(run: Run, *, first: int = 1, **options) -> tuple[np.ndarray, np.ndarray]:
    """(ours, theirs); first: what we call their step 0."""
    frozen = np.load(SOURCE / "outputs.npz")
    network = make_network(run.spec, **(run.config.model.to_dict() | options))
    t = jnp.asarray((frozen["t"] + first) / 1000.0, jnp.float32)
    ours = network.apply(run.state()[0].params, jnp.asarray(frozen["x"]), t)
    return np.asarray(ours), frozen["y"]


def test_the_network_is_that_of_diffusers(imported):
    ours, theirs = outputs(imported)
    assert theirs.std() > 0.3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"first": 0}, {"num_groups": 0}])
def test_steps_and_groups_are_counted_as_there(imported, wrong):
    ours, theirs = outputs(imported, **wrong)
    assert np.abs(ours - theirs).max() > 1e-3


def test_what_was_imported_is_a_model_like_any(imported):
    assert imported.state()[1] == "raw" and imported.config.model.channels == 8
    assert imported.spec.name == "digits" and imported.step == 0
    card = (imported.workdir / "README.md").read_text()
    assert "71,033" in card and "unet2d" in card


def test_the_published_size_maps_one_to_one():
    lines = (SOURCE / "cifar10_32.txt").read_text().split("\n")[:-1]
    found = {}
    for line in lines:
        name, shape = line.split()
        array = np.broadcast_to(np.float32(0), [int(n) for n in shape.split("x")])
        ours, value = diffusers.translated(name, array, num_levels=4)
        assert ours not in found
        found[ours] = value.shape
    network, x = UNet(out_channels=3), jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(1))
    wanted = tree.named_leaves(shapes["params"])
    assert found == {name: leaf.shape for name, leaf in wanted.items()}
    assert sum(math.prod(shape) for shape in found.values()) == 35_746_307


def test_the_published_options_are_those_of_ddpm_cifar():
    about = json.loads((SOURCE / "config.json").read_text())
    levels = [f"{at}DownBlock2D" for at in ("", "Attn", "", "")]
    about |= {"sample_size": 32, "in_channels": 3, "out_channels": 3}
    about |= {"block_out_channels": [128, 256, 256, 256], "layers_per_block": 2}
    about |= {"norm_num_groups": 32, "down_block_types": levels}
    about |= {"up_block_types": [x.replace("Down", "Up") for x in levels[::-1]]}
    stated = configs.load(str(CONFIG.with_name("ddpm_cifar.py"))).model.to_dict()
    as_there = {"num_groups": 32, "time_offset": 1.0}  # 32 are what 128 channels get
    assert stated | diffusers.model_of(about) == stated | as_there
    assert diffusers.shape_of(about) == (32, 32, 3)


def test_the_first_files_call_attention_otherwise(copy):
    path = copy / diffusers.WEIGHTS
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    arrays = {}
    for name, array in safetensors.numpy.load_file(path).items():
        for now, before in names.items():
            name = name.replace(f".{now}.", f".{before}.")
        arrays[name] = array
    assert any(".proj_attn." in name for name in arrays)
    safetensors.numpy.save_file(arrays, path)
    old, new = diffusers.read(copy).arrays, diffusers.read(SOURCE).arrays
    assert old.keys() == new.keys()
    for name in old:
        np.testing.assert_array_equal(old[name], new[name])


def test_the_scheduler_is_the_schedule(copy):
    about = {"beta_schedule": "linear", "beta_end": 0.03, "num_train_timesteps": 500}
    (copy / "scheduler_config.json").write_text(json.dumps(about))
    method = diffusers.read(copy).changes["method"]
    assert method["beta_end"] == 0.03 and method["num_timesteps"] == 500
    (copy / "scheduler_config.json").write_text('{"beta_schedule": "sigmoid"}')
    with pytest.raises(UserError, match="beta_schedule='sigmoid'"):
        diffusers.read(copy)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_refused_with_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match="is a pickle.*save_file"):
            diffusers.read(path)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"norm_eps": 1e-5}, "norm_eps=1e-05, and only 1e-06"),
        ({"_class_name": "UNet2DConditionModel"}, "not UNet2DModel"),
        ({"act_fn": "gelu"}, "act_fn='gelu'"),
        ({"attention_head_dim": 8, "block_out_channels": [8, 16, 32]}, "of heads"),
        ({"up_block_types": ["UpBlock2D"] * 3}, "in reverse"),
        ({"out_channels": 2}, "learned variances"),
        ({"sample_size": None}, "not as diffusers writes it"),
        ({"block_out_channels": 7}, "not as diffusers writes it"),
    ],
)
def test_another_network_is_refused(copy, options, words):
    change(copy, **options)
    with pytest.raises(UserError, match=words):
        diffusers.read(copy)


def test_the_command_line_refuses_before_it_writes(copy, tmp_path, capsys):
    target = tmp_path / "new"
    command = ["--mode=import", f"--workdir={target}"]
    path = copy / diffusers.WEIGHTS
    whole = path.read_bytes()
    for config, content, words in [
        ("vae_digits", whole, "needs a config of experiments/ddpm.py"),
        ("ddpm_digits", whole[:1000], "cannot be read as weights"),
        ("ddpm_toy2d", whole, "choose other data"),
    ]:
        path.write_bytes(content)
        flags = [f"--config={CONFIG.with_name(config + '.py')}", f"--input={copy}"]
        assert launch.main([*command, *flags]) == 2
        assert words in capsys.readouterr().err and not target.exists()
    assert launch.main([*command, f"--config={CONFIG}"]) == 2
    assert "needs --input" in capsys.readouterr().err
    change(copy, block_out_channels=[8, 16, 8])
    path.write_bytes(whole)
    assert launch.main([*command, f"--config={CONFIG}", f"--input={copy}"]) == 2
    assert "another model" in capsys.readouterr().err and not target.exists()
