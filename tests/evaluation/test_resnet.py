import dataclasses
import functools
import hashlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.split import Dataset, split_from_arrays
from genjax.evaluation import __main__ as command
from genjax.evaluation import classifiers, extractors, resnet
from genjax.evaluation.classifiers import JPEG75, REAL
from genjax.typing import UserError
from tests.specs import CIFAR as COLOR

SMALL = resnet.ResNet(width=4, blocks=(1, 1))
fit_small = functools.partial(resnet.fit, epochs=4, batch_size=16, network=SMALL)
read_small = functools.partial(resnet.features_and_logits, network=SMALL)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The command trains a small network under the name of the lossy copy."""
    classifier = dataclasses.replace(
        classifiers.CLASSIFIERS[JPEG75], fit=fit_small, features_and_logits=read_small
    )
    monkeypatch.setitem(classifiers.CLASSIFIERS, JPEG75, classifier)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path))
    extractors.folder().mkdir(parents=True)
    return extractors.folder()


def noise():
    """Pictures of noise, bright or dark, with labels that say which."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)
    labels = random.integers(0, 2, 64).astype(np.int32)
    images[labels == 1] //= 2
    return images, labels


@pytest.fixture(scope="module")
def trained():
    """(images, weights of the small network, losses of its epochs)."""
    images, labels = noise()
    told = []
    key = jax.random.key(0)
    variables = fit_small(images, labels, key=key, say=lambda *s: told.append(s))
    assert [(step, total) for step, total, _ in told] == [
        (steps, 16) for steps in (4, 8, 12, 16)
    ]
    return images, variables, [loss for _, _, loss in told]


@pytest.mark.slow
def test_training_lowers_the_loss(trained):
    losses = trained[2]
    print("losses", losses)
    assert losses[-1] < 0.7 * losses[0]


def test_the_same_key_gives_the_same_weights(trained):
    again = fit_small(*noise(), key=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, again, trained[1])


def test_weights_are_as_many_as_counted_by_hand():
    def convolution(side, ins, outs):
        return side * side * ins * outs + 2 * outs  # with its norm's scale and bias

    def stage(ins, outs):
        first = convolution(3, ins, outs) + convolution(3, outs, outs)
        shortcut = convolution(1, ins, outs) if ins != outs else 0
        return first + shortcut + 2 * convolution(3, outs, outs)

    widths = [64, 64, 128, 256, 512]
    stages = [stage(*pair) for pair in zip(widths, widths[1:], strict=False)]
    counted = convolution(3, 3, 64) + sum(stages) + 512 * 10 + 10
    network = resnet.ResNet(width=64)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert found == counted == 11_173_962
    flat = flax.traverse_util.flatten_dict(shapes["params"], sep="/")
    biases = [name.split("/")[-2] for name in flat if name.endswith("bias")]
    assert all(name == "logits" or name.endswith("_norm") for name in biases)
    features, logits = jax.eval_shape(network.apply, shapes, images)
    assert features.shape == (1, 512) and logits.shape == (1, 10)


def test_strides_halve_the_picture_three_times():
    # He et al. 2016, section 4.2: maps of 32, 16, 8 ..., each half the one before.
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)

    def maps(key, images):
        out = resnet.ResNet(width=2).init_with_output(
            key, images, capture_intermediates=True, mutable=True
        )
        return out[1]["intermediates"]

    found = jax.eval_shape(maps, jax.random.key(0), images)
    sides = [found[f"stage{i}_block1"]["__call__"][0].shape[1:] for i in range(4)]
    assert sides == [(32, 32, 2), (16, 16, 4), (8, 8, 8), (4, 4, 16)]


def test_half_precision_keeps_weights_and_statistics_whole():
    images = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.uint8)
    network = SMALL.clone(dtype=jnp.bfloat16)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    out, moved = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
        variables,
        images,
    )
    assert moved["batch_stats"] == variables["batch_stats"]  # shapes and dtypes
    leaves = jax.tree.leaves((out, variables))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def test_features_depend_on_no_other_row_and_survive_a_file(trained, folder):
    images, variables, _ = trained
    (folder / f"{JPEG75}.npz").write_bytes(extractors.to_bytes(variables, 0.5))
    extractor = extractors.load(JPEG75, COLOR)
    assert extractor.name == JPEG75 and extractor.reads_labels
    assert extractor.note.startswith("test accuracy 0.5000, weights ")
    together = jax.jit(read_small)(variables, images[:6])
    for found, expected in zip(extractor.apply(images[2:6]), together, strict=True):
        np.testing.assert_allclose(found, expected[2:], rtol=1e-4, atol=1e-5)
        assert np.abs(np.diff(found, axis=0)).max() > 1e-3  # rows do differ
    assert together[0].min() >= 0.0
    hundred = dataclasses.replace(COLOR, name="cifar100", num_classes=100)
    assert not extractors.load(JPEG75, hundred).reads_labels


def test_pictures_are_flipped_and_moved_whole():
    base = np.random.default_rng(0).integers(1, 256, (9, 8, 1)).astype(np.uint8)
    images = jnp.asarray(np.tile(base, (300, 1, 1, 1)))
    found = np.asarray(jax.jit(resnet.flip_and_move)(jax.random.key(0), images))
    margin = resnet.MARGIN
    possible = {}
    for flip, source in enumerate((base, base[:, ::-1])):
        padded = np.pad(source, ((margin, margin), (margin, margin), (0, 0)))
        for y in range(2 * margin + 1):
            for x in range(2 * margin + 1):
                possible[padded[y : y + 9, x : x + 8].tobytes()] = (flip, y, x)
    drawn = [possible[image.tobytes()] for image in found]
    assert {y for _, y, _ in drawn} == {x for _, _, x in drawn} == set(range(9))
    assert 100 < sum(flip for flip, _, _ in drawn) < 200


@pytest.fixture
def lossy(trained, monkeypatch):
    """The images of `trained`, which are the command's cifar10 and its lossy copy."""
    images, _, _ = trained
    labels = np.zeros(len(images), np.int32)
    train, test = (split_from_arrays(part, images, labels) for part in ("a", "b"))
    found = Dataset(spec=COLOR, train=train, eval=test, fingerprint="")
    monkeypatch.setattr(command.datasets, "load", lambda *names: found)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    monkeypatch.setattr(classifiers, "JPEG75_SHA256", digest)
    return images


def test_the_real_set_is_asked_for(lossy, folder, capsys):
    assert command.main([f"--train={REAL}"]) == 2
    said = capsys.readouterr().err
    assert "a lossy copy of CIFAR-10" in said and f"--train={JPEG75}" in said


def test_the_lossy_copy_is_asked_for(lossy, folder, capsys, monkeypatch):
    monkeypatch.setattr(classifiers, "JPEG75_SHA256", "0" * 64)
    assert command.main([f"--train={JPEG75}"]) == 2
    said = capsys.readouterr().err
    assert "not the lossy copy" in said and f"--train={REAL}" in said


def test_the_command_keeps_what_it_trained(lossy, folder, capsys):
    assert command.main([f"--train={JPEG75}"]) == 0
    assert "test accuracy 1.0000" in capsys.readouterr().out  # of a single class
    features, logits = extractors.load(JPEG75, COLOR).apply(lossy)
    assert features.shape == (64, 8) and (logits.argmax(-1) == 0).all()
    command.main([f"--train={JPEG75}"])
    assert "delete it to train it again" in capsys.readouterr().out


def test_missing_weights_name_the_command(folder):
    with pytest.raises(UserError, match=f"on a CPU, by .* --train={REAL}"):
        extractors.load(REAL, COLOR)
    gray = dataclasses.replace(COLOR, name="gray", shape=(32, 32, 1))
    with pytest.raises(UserError, match=r"gray has \(32, 32, 1\) with 256"):
        extractors.load(REAL, gray)


def test_a_wrong_name_is_answered_with_all_networks():
    with pytest.raises(UserError) as said:
        extractors.load("no_such_network", COLOR)
    known = (*extractors.NAMES, "inception:FILE")
    assert all(name in str(said.value) for name in known)
