"""mdp_jax.load: networks of workdirs and of files as Python objects, against the networks themselves."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdp_jax
from mdp_jax import configs
from mdp_jax.errors import UserError
from mdp_jax.evaluation import loaded
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.weights import layouts
from mdp_jax.weights.torch_weights import to_torch
from tests import earlier, tiny
from tests.weights import seeded_weights

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return earlier.unpacked(tmp_path_factory.mktemp("workdirs"))


@pytest.fixture(scope="module")
def finetuned(folder):
    return mdp_jax.load(folder / "finetuned")


@pytest.fixture(scope="module")
def pretrained(folder):
    return mdp_jax.load(folder / "pretrained")


def logits_by_hand(net, classes):
    model = network.segmenter(net.model, classes)
    weights = {name: net.variables[name] for name in ("params", "batch_stats")}
    images = Normalise.of(net.data, "float32")(jnp.asarray(PHOTO[None]))
    return network.upsample(jax.jit(lambda x: model.apply(weights, x, train=False))(images), PHOTO.shape[:2])[0]


def test_labels_and_probabilities_are_those_of_the_network(finetuned):
    expected = np.array(logits_by_hand(finetuned, len(finetuned.classes)), np.float64)
    exponentials = np.exp(expected - expected.max(-1, keepdims=True))
    found = finetuned.probabilities(PHOTO)
    assert found.dtype == np.float32 and found.shape == (50, 70, len(finetuned.classes))
    np.testing.assert_allclose(found, exponentials / exponentials.sum(-1, keepdims=True), atol=1e-5)
    labels = finetuned.predict(PHOTO)
    assert labels.dtype == np.int32 and labels.shape == (50, 70)
    assert (labels == expected.argmax(-1)).mean() > 0.999  # of equal logits either may win
    assert finetuned.datasets == ("valley",) and finetuned.classes[0] == "heaven"


@pytest.mark.parametrize("name", ["predict", "probabilities", "embed"])
def test_batches_and_lists_give_what_single_photos_give(pretrained, name):
    function, other = getattr(pretrained, name), PHOTO[:33, ::-1]
    single = function(PHOTO)
    batch = function(np.stack([PHOTO, PHOTO[:, ::-1]]))
    assert batch.shape == (2, *single.shape)
    np.testing.assert_allclose(batch[0], single, atol=1e-5)
    listed = function([PHOTO, other])
    assert isinstance(listed, list) and listed[1].shape[-1:] == function(other).shape[-1:]
    np.testing.assert_allclose(listed[1], function(other), atol=1e-5)


def test_a_size_is_compiled_once(folder):
    net = mdp_jax.load(folder / "finetuned")
    for _ in range(3):
        net.predict(PHOTO)
    assert net._labels._cache_size() == 1
    net.predict(PHOTO[:40])
    assert net._labels._cache_size() == 2


def test_prototypes_label_in_all_classes_or_in_those_of_a_set(folder, pretrained):
    assert pretrained.classes[0] == "harbor/air" and pretrained.datasets == ("harbor", "town")
    town = mdp_jax.load(folder / "pretrained", dataset="town")
    ids = [i for i, name in enumerate(pretrained.classes) if name.startswith("town/")]
    assert [f"town/{name}" for name in town.classes] == [pretrained.classes[i] for i in ids]
    np.testing.assert_array_equal(town.prototypes, pretrained.prototypes[ids])
    seen = ~np.isnan(pretrained.prototypes).any(axis=1)
    assert seen.any()
    np.testing.assert_allclose(np.linalg.norm(pretrained.prototypes[seen], axis=1), 1.0, atol=1e-5)
    every, own = pretrained.probabilities(PHOTO), town.probabilities(PHOTO)
    np.testing.assert_allclose(own, every[..., ids] / every[..., ids].sum(-1, keepdims=True), atol=1e-4)


def test_embeddings(pretrained, finetuned):
    vectors = pretrained.embed(PHOTO)
    assert vectors.shape == (7, 9, 8) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)
    assert pretrained.embed(PHOTO, "decoder").shape == finetuned.embed(PHOTO).shape == (7, 9, 4)
    assert pretrained.embed(PHOTO, "backbone").shape == (7, 9, 8)
    with pytest.raises(UserError, match="layer='projection': expected one of backbone, decoder"):
        finetuned.embed(PHOTO, "projection")


def test_a_head_of_each_set(folder):
    net = mdp_jax.load(folder / "multi_head", dataset="harbor")
    assert net.predict(PHOTO).max() < len(net.classes)
    with pytest.raises(UserError, match="has no prototypes"):
        net.prototypes  # noqa: B018


def test_photos_are_seen_at_the_size_of_the_config(folder):
    net = mdp_jax.load(folder / "finetuned")
    small = mdp_jax.Network(
        net.model,
        configs.typed(tiny.finetune_config(data__short_side=25)).data,
        net._module,
        net._module,
        net.variables,
        net.classes,
    )
    assert small.predict(PHOTO).shape == (50, 70)
    assert small.embed(PHOTO).shape == (4, 5, 4)


def test_what_was_changed_in_a_file_of_weights_is_said(tmp_path, finetuned, capsys):
    ours = to_torch({"backbone": finetuned.variables["params"]["backbone"]})
    ours |= to_torch({"backbone": finetuned.variables["batch_stats"]["backbone"]})
    halves = {key.removeprefix("backbone."): array.astype(np.float16) for key, array in ours.items()}
    path = seeded_weights.write_file(tmp_path / "half.safetensors", halves)
    mdp_jax.load(path)
    count = len(halves)
    assert capsys.readouterr().err == f"{path}: {count} of {count} leaves are float16; cast to float32\n"


def test_a_file_of_weights(tmp_path, finetuned):
    classes = len(finetuned.classes)
    ours = to_torch(finetuned.variables["params"]) | to_torch(finetuned.variables["batch_stats"])
    modules = layouts.modules_for(finetuned.model, "mmseg", False)
    path = seeded_weights.write_file(
        tmp_path / "net.safetensors", {layouts.rename(key, modules): array for key, array in ours.items()}
    )
    net = mdp_jax.load(path, model=finetuned.model, data=finetuned.data, classes=finetuned.classes)
    np.testing.assert_array_equal(net.predict(PHOTO), finetuned.predict(PHOTO))
    with pytest.raises(UserError, match=rf"has {classes} classes; expected as many names, and 1 are given"):
        mdp_jax.load(path, model=finetuned.model, classes=("one",))
    with pytest.raises(UserError, match="is a file of weights, which has no datasets"):
        mdp_jax.load(path, dataset="valley")
    with pytest.raises(UserError, match="2 rates, which its weights do not tell"):
        mdp_jax.load(path)


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        (PHOTO / 255, r"photo of shape \(50, 70, 3\) and type float64: expected uint8 RGB from 0 to 255"),
        (PHOTO[..., 0], r"photos of shape \(50, 70\) and type uint8"),
        (PHOTO[..., :2], r"photo of shape \(50, 70, 2\)"),
        (PHOTO[:0], r"photo of shape \(0, 70, 3\)"),
        (PHOTO[None, None], r"photos of shape \(1, 1, 50, 70, 3\)"),
        ("photo.jpg", "photos of type str"),
        ([PHOTO, "photo.jpg"], "photo 1 of type str"),
        ([PHOTO, PHOTO.astype(np.int64)], r"photo 1 of shape \(50, 70, 3\) and type int64"),
        (None, "photos of type NoneType"),
    ],
)
def test_photos_that_are_none(finetuned, photos, message):
    with pytest.raises(UserError, match=message):
        finetuned.predict(photos)


def test_folders_and_names_that_are_none(folder, tmp_path):
    with pytest.raises(UserError, match=r"config\.json: missing; expected the workdir"):
        mdp_jax.load(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such file or folder; expected the workdir of a run, or a file"):
        mdp_jax.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"dataset='city': .* was trained on harbor, town; expected one of them"):
        mdp_jax.load(folder / "pretrained", dataset="city")
    with pytest.raises(UserError, match="a workdir, which says what its network is"):
        mdp_jax.load(folder / "pretrained", classes=("a",))


def test_evaluate_gives_the_scores_of_the_command(folder):
    found = mdp_jax.evaluate(folder / "finetuned", split="train", dataset__limit=2)
    assert found["valley"]["images"] == 2 and 0 <= found["valley"]["mIoU"] <= 100
    with pytest.raises(UserError, match=r"config\.steps: fixed when .* was trained"):
        mdp_jax.evaluate(folder / "finetuned", steps=3)


def test_importing_the_package_loads_and_sets_nothing(tmp_path):
    program = (
        "import os, sys; before = dict(os.environ); import mdp_jax; assert dict(os.environ) == before;"
        "assert not {'jax', 'flax', 'numpy', 'cv2', 'ml_collections'} & set(sys.modules);"
        "assert {'load', 'pretrain', 'finetune', 'evaluate', 'Network', 'configs'} <= set(dir(mdp_jax));"
        "mdp_jax.configs.pretrain(); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_probabilities_that_would_fill_the_memory_are_refused(finetuned, monkeypatch):
    classes = len(finetuned.classes)
    monkeypatch.setattr(loaded, "MOST_PROBABILITIES", 50 * 70 * classes)
    assert finetuned.probabilities(PHOTO).shape == (50, 70, classes)
    wider = np.concatenate([PHOTO, PHOTO[:, :1]], axis=1)
    for photos in (wider, [PHOTO, wider], wider[None]):
        with pytest.raises(UserError, match=rf"50 x 71 pixels .*: {classes} probabilities of each are more than"):
            finetuned.probabilities(photos)
    assert finetuned.predict(wider).shape == (50, 71)
