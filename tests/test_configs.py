"""Every config opens without a device; at tiny, every one trains and samples."""

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from genjax import configs, fields, sources
from genjax.data import datasets
from genjax.data.pipeline import TrainFeed, gather
from genjax.training.compile import compile_experiment
from genjax.training.sharding import batch_sharding
from genjax.typing import UserError
from genjax.variants import TINY
from tests.contract.cases import is_bundled, submesh

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
OFFLINE_DATA = ROOT.parent / "shared" / "data" / "tensorflow_datasets"


def load(name: str, variant: str = "") -> ConfigDict:
    return configs.load(f"{ROOT / 'configs' / name}.py{variant}")


def variants_of(name: str) -> list[str]:
    module = configs._run(ROOT / "configs" / f"{name}.py", f"variants_of_{name}")
    named = getattr(module, "VARIANTS", {})
    return ["", ":tiny", *(f":{v}" for v in named if v != "tiny")]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_whole(name):
    docstring = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
    assert f"python launch.py --config=configs/{name}.py" in docstring
    for variant in variants_of(name):
        config = load(name, variant)
        assert name.startswith(config.experiment)
        common, own = configs.check(config.to_dict())
        assert common.experiment == config.experiment and own is not None
        # complete already: nothing is added, and JSON's lists aside nothing changes
        assert configs.complete(config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_states_only_what_differs(name):
    """The defaults stand in the sections, once."""
    module = configs._run(ROOT / "configs" / f"{name}.py", f"stated_of_{name}")
    stated = configs.flatten(module.CONFIG)
    required = {"experiment": module.CONFIG["experiment"]}
    if "backbone" in module.CONFIG.get("model", {}):
        required["model"] = {"backbone": module.CONFIG["model"]["backbone"]}
    defaults = configs.flatten(configs.described(required))
    idle = [
        field
        for field, value in stated.items()
        if field in defaults
        and field not in ("experiment", "model.backbone")
        and defaults[field].default is not fields.REQUIRED
        and defaults[field].default == value
    ]
    assert not idle, f"{name} repeats the default of {', '.join(idle)}"


def on_real_data(name):
    """(config, data, experiment) at tiny; the laws try those on bundled data."""
    config = load(name, ":tiny")
    common, _ = configs.check(config.to_dict())
    if is_bundled(config.data):
        pytest.skip("tried by the laws")
    folder = os.environ.get("TFDS_DATA_DIR", str(OFFLINE_DATA))
    options = {**common.data.options(), "dir": folder}
    try:
        dataset = datasets.load(**options, download=False)
    except UserError as error:
        pytest.skip(f"{config.data.name} is not on this machine: {error}")
    return config, dataset, configs.make_experiment(config, dataset.spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_tiny_fits_real_data(name):
    """Traced, not run."""
    config, dataset, experiment = on_real_data(name)
    key, size = jax.random.key(0), config.training.batch_size
    rows = dataset.train.read(np.arange(size))
    batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in rows.items()}
    state = jax.eval_shape(experiment.init, key)
    after, metrics = jax.eval_shape(experiment.train_step, state, batch, key)
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics
    if experiment.sample is not None:
        drawn = jax.eval_shape(lambda s: experiment.sample(s, key, 2), state)
        assert drawn.shape == (2, *dataset.spec.shape) and drawn.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_tiny_trains_and_samples_on_real_data(name):
    config, dataset, experiment = on_real_data(name)
    compiled = compile_experiment(experiment, submesh(1), gather=gather)
    feed = TrainFeed(
        dataset.train,
        seed=0,
        batch_size=config.training.batch_size,
        sharding=batch_sharding(compiled.mesh),
    )
    state, _, metrics, _ = compiled.run(
        compiled.init(0), compiled.healthy(), feed.resident, feed.get(0, 2), 0, seed=0
    )
    assert all(np.isfinite(values).all() for values in metrics.values())
    if experiment.sample is None:
        return
    samples = jax.jit(experiment.sample, static_argnums=2)(state, jax.random.key(0), 2)
    assert samples.shape == (2, *dataset.spec.shape) and samples.dtype == np.uint8


# --- the loader -----------------------------------------------------------------------

STATED = '''"""A config."""
from ml_collections import ConfigDict

CONFIG = dict(experiment="flow_matching", model=dict(backbone="mlp"))
VARIANTS = dict(wide=dict(model=dict(width=999)))


def get_config(variant=""):
    config = ConfigDict(CONFIG)
    config.update(VARIANTS.get(variant, {}))
    return config
'''


@pytest.fixture
def project(tmp_path):
    """A folder with configs/mine.py and experiments/flow_matching.py."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "configs/mine.py").write_text(STATED)
    source = ROOT / "experiments/flow_matching.py"
    shutil.copy(source, tmp_path / "experiments/flow_matching.py")
    yield tmp_path
    configs.find_experiment("flow_matching", ROOT / "configs/x.py")


def test_what_is_not_stated_has_its_default(project):
    config = configs.load(str(project / "configs/mine.py"))
    assert config.model.width == 128 and config.optim.ema_decay == 0.999
    assert config.training.num_steps == configs.Training().num_steps
    assert config.sampler.guidance.scale == 1.0
    wide = configs.load(f"{project / 'configs/mine.py'}:wide")
    assert wide.model.width == 999
    tiny = configs.load(f"{project / 'configs/mine.py'}:tiny")
    expected = {k: v for k, v in TINY.items() if not k.startswith("likelihood.")}
    assert configs.flatten(tiny).items() >= expected.items()


def test_configs_and_experiments_are_found_from_anywhere(project, monkeypatch):
    monkeypatch.chdir(project)
    assert configs.find_config("mine") == Path("configs/mine.py")
    assert configs.find_config("flow_matching_toy2d").is_file()
    for beside in (None, Path("configs/mine.py")):
        module = configs.find_experiment("flow_matching", beside)
        assert Path(module.__file__ or "").parent.parent == project
    monkeypatch.chdir("/")
    module = configs.find_experiment("flow_matching")
    assert Path(module.__file__ or "").parent.parent == ROOT


def test_an_edited_experiment_is_read_again(project):
    beside = project / "configs/mine.py"
    before = configs.find_experiment("flow_matching", beside)
    code = configs.code_of("flow_matching", beside)
    assert configs.find_experiment("flow_matching", beside) is before
    file = project / "experiments/flow_matching.py"
    file.write_text(file.read_text() + "\nEDITED = True\n")
    assert configs.find_experiment("flow_matching", beside).EDITED
    after = configs.code_of("flow_matching", beside)
    assert sources.changed(code, after) == ["experiments/flow_matching.py"]


BAD = {
    "raise KeyError('x')": "KeyError: 'x'",
    "def get_config(variant=''): return 3": "returned 3",
    "def get_config(variant=''): raise KeyError('y')": "KeyError: 'y'",
    "def get_config(": "line 1",
    "x = 1": "has no get_config",
    "import no_such_module": "No module named",
}


@pytest.mark.parametrize("source", BAD)
def test_a_file_that_gives_no_config(source, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(UserError, match="bad.py") as said:
        configs.load(str(path))
    assert BAD[source] in str(said.value)


BASE = {"experiment": "flow_matching", "model": {"backbone": "mlp"}}
WRONG = [
    ({}, "does not say its experiment"),
    ({"experiment": "flow_machting"}, "did you mean flow_matching"),
    ({"experiment": "flow_matching"}, "the config lacks model"),
    (BASE | {"optm": {}}, "unknown config section optm; did you mean optim"),
    (BASE | {"optim": {"lr": 1}}, "unknown config field optim.lr"),
    (BASE | {"optim": 3}, "config.optim must be a section"),
    (BASE | {"seed": -1}, "config.seed must be in 0"),
    (BASE | {"training": {"num_steps": 1.5}}, "must be an int, not 1.5"),
    (BASE | {"training": {"num_steps": 0}}, "must be at least 1, not 0"),
    (BASE | {"mesh": {"fsdp": True}}, "must be an int, not True"),
    (BASE | {"model": {"backbone": "mpl"}}, "did you mean 'mlp'"),
    (BASE | {"sampler": {"name": "heum"}}, "did you mean 'heun'"),
    (BASE | {"sampler": {"guidance": {"scal": 1}}}, "did you mean scale"),
    (
        BASE | {"training": {"num_steps": 5}, "optim": {"snapshot_step": 5}},
        "before the last step, training.num_steps=5",
    ),
]


@pytest.mark.parametrize(("stated", "words"), WRONG)
def test_a_mistake_in_a_config_is_named(stated, words):
    with pytest.raises(UserError) as said:
        configs.complete(stated)
    assert words in str(said.value)


def test_show_prints_every_field_once():
    config = load("flow_matching_digits", ":tiny")
    lines = configs.show(config).splitlines()
    names = [line.partition(" = ")[0] for line in lines]
    assert names == list(configs.flatten(configs.described(config.to_dict())))
    assert set(names) == set(configs.flatten(config))
    shown = dict(zip(names, lines, strict=True))
    assert "(default 10000)" in shown["training.num_steps"]
    assert "at least 1" in shown["training.num_steps"]
    assert "heun" in shown["sampler.name"] and "(default" not in shown["optim.b1"]


def test_nested_and_flat_are_inverse():
    flat = {"a.b.c": 1, "a.d": (2,), "e": None}
    assert configs.flatten(configs.nested(flat)) == flat
    assert configs.merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {
        "a": {"b": 3, "c": 2}
    }
