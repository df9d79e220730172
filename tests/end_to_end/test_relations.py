"""A whole run with names: pretrained by relations and starts, gone on with, and asked for classes by their names."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from mdp_jax import cli, config, configs, schema
from mdp_jax.configs import MethodConfig
from mdp_jax.data import class_names
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints
from mdp_jax.training.editing import Edits, edit
from tests import earlier

CONFIG = """
from tests import earlier, tiny


def get_config():
    names = {"relations": "text", "names_file": "names.npz", "start_from_names": True, "related_as": "positives"}
    method = {f"method__{key}": value for key, value in names.items()}
    values = earlier.VALUES | {"steps": 2, "model__decoder__name": "identity", "method__prototype_momentum": 1.0}
    return tiny.pretrain_config(**(values | method))
"""
ON = """
from tests import tiny


def get_config():
    return tiny.finetune_config()
"""
BAD = [
    ("relations=near", "config.method.relations='near': expected one of none, names, text"),
    ("related_as=friends", "config.method.related_as='friends': expected one of no_negatives, positives"),
    ("relation_threshold=0.0", "config.method.relation_threshold=0.0: expected more than 0"),
    ("sparse_coding=no_push", "config.method.related_as='positives': expected 'no_negatives', or"),
    ("names_file=", "config.method.relations='text': no vectors of names; expected config.method.names_file"),
    ("names_file=nowhere.npz", "nowhere.npz cannot be read (No such file or directory); expected an .npz"),
]
OBJECTIVES = [
    ("prototype", "config.method.relations='text': expected 'none' with config.objective='prototype'; others are for"),
    ("multi_head", "config.method.relations='text': expected 'none' with config.objective='multi_head'; others are"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config, vectors of its classes' names and of valley's, and a photo."""
    monkeypatch.chdir(earlier.unpacked(tmp_path))
    pathlib.Path("names.py").write_text(CONFIG)
    pathlib.Path("valley.py").write_text(ON)
    _write_names(0)
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    cv2.imwrite("photo.png", photo)
    return tmp_path


def _write_names(seed):
    """Random vectors of 64 numbers, so that no two are near, but one for air, sky and heaven."""
    names = [name for kind in ("harbor", "town", "valley") for name in synthetic(kind)]
    vectors = np.random.default_rng(seed).normal(size=(len(names), 64))
    vectors[[names.index("air"), names.index("heaven")]] = vectors[names.index("sky")]
    np.savez("names.npz", names=np.array(names), vectors=vectors)


def synthetic(name):
    config = configs.synthetic(name, images=1)
    return KINDS[config.kind].source(schema.make(KINDS[config.kind].config_type, config, ""), "", "train").classes


def test_a_whole_run(shallow, plain_pages, folder, capsys):
    words = ["pretrain", "--config", "names.py", "--workdir", "run"]
    assert cli.run(words) == 0
    said = "relations: 1 pair of classes, such as harbor/air and town/sky (positives); relations.json has all of them"
    assert said in capsys.readouterr().err
    record = json.loads(pathlib.Path("run/relations.json").read_text())
    assert record["pairs"] == [["harbor/air", "town/sky", 1.0]] and record["relations"] == "text"
    # With a momentum of 1 the prototypes stay where they start.
    state, _ = checkpoints.load(pathlib.Path("run"))
    method = MethodConfig(start_from_names=True, names_file="names.npz")
    starts = class_names.of_run(method, LabelSpace.load("run/label_space.json"), 8, seed=0).relations.starts
    np.testing.assert_allclose(state["memory"]["bank"]["vectors"], starts, rtol=1e-5)
    assert (state["memory"]["bank"]["images_seen"] > 0).any()
    # Classes that come back begin at the same place.
    edit("run", "fewer", Edits(drop=[("town",)]))
    edit("fewer", "again", config=config.load("names.py"))
    again = checkpoints.load(pathlib.Path("again")).state["memory"]["bank"]
    np.testing.assert_allclose(again["vectors"], starts, rtol=1e-5)
    assert not again["images_seen"][len(synthetic("harbor")) :].any()
    # Until a photo shows them they do not answer for their names.
    pathlib.Path("classes.txt").write_text("lawn\n")
    named = ["predict", "--checkpoint", "again", "--as", "classes.txt", "--out", "out", "photo.png"]
    with pytest.raises(UserError, match=r"^--as classes\.txt: only .* never seen are near: lawn \(town/lawn\)"):
        cli.run(named)
    _write_names(1)
    with pytest.raises(UserError, match=r"^run/relations\.json: the vectors of the names are others than when"):
        cli.run(words)


def test_classes_by_their_names(folder, capsys):
    pathlib.Path("classes.txt").write_text("heaven\nSKY\nbare_ground\nhill\n")
    words = ["predict", "--checkpoint", "pretrained", "--as", "classes.txt", "photo.png"]
    assert cli.run([*words, "--out", "out", "--probabilities", "classes"]) == 0
    said = capsys.readouterr().err
    assert "near to no class of the network, and never predicted: 2 of 4 names (heaven, hill)" in said
    assert set(np.unique(cv2.imread("out/photo.png", cv2.IMREAD_UNCHANGED))) <= {1, 2}
    with np.load("out/photo_probabilities.npz") as found:
        assert found["classes"].tolist() == ["heaven", "SKY", "bare_ground", "hill"]
        assert not found["probabilities"][..., [0, 3]].any()
    evaluate = ["evaluate", "--checkpoint", "pretrained", "--on", "valley.py"]
    assert cli.run([*evaluate, "--names", "names.npz"]) == 0
    scores = json.loads(pathlib.Path("pretrained/evaluation_named_valley.json").read_text())
    matches = scores["names"]["valley"]["matches"]
    assert matches.pop("heaven") == {"harbor/air": 1.0, "town/sky": 1.0} and not any(matches.values())
    of_class = scores["datasets"]["valley"]["per_class_accuracy"]
    assert of_class.pop("heaven") == 100 and not any(of_class.values())  # nothing else is ever predicted
    assert pathlib.Path("pretrained/confusion_named_valley.csv").exists()
    for wrong, message in (
        ([*words[:3], "--names", "names.npz", *words[5:], "--out", "no"], "--names names.npz: expected --as FILE too"),
        (["predict", "--checkpoint", "finetuned", *words[3:], "--out", "no"], "finetuned is a workdir of mdp finetune"),
        (["evaluate", "--checkpoint", "pretrained", "--near", "0.5"], "--near 0.5: expected --on CONFIG too"),
        (evaluate, "--on valley.py: no class of the network has an equal name; it has air, asphalt, "),
        ([*evaluate[:4], "names.py"], "--on names.py: no dataset in it; expected a config of mdp finetune"),
    ):
        with pytest.raises(UserError, match=message):
            cli.run(wrong)
    assert not pathlib.Path("no").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [*((f"method.{value}", message) for value, message in BAD), *((f"objective={o}", m) for o, m in OBJECTIVES)],
    ids=[*(value for value, _ in BAD), *(name for name, _ in OBJECTIVES)],
)
def test_values_that_cannot_be(folder, word, message):
    unmixed = ["--config.mixing.region=0.0", "--config.mixing.pixel=0.0"] if word.startswith("objective") else []
    with pytest.raises(UserError) as error:
        cli.run(["pretrain", "--config", "names.py", "--workdir", "run", f"--config.{word}", *unmixed])
    assert message in str(error.value) and not pathlib.Path("run").exists()
