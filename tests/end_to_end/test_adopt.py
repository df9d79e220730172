"""`mdp adopt`: a new set on a trained network, and what is refused."""

import json

import numpy as np
import pytest

import mdp_jax
from mdp_jax import cli, configs
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant
from mdp_jax.evaluation.closed_form import HEADS
from mdp_jax.evaluation.discriminant import Statistics
from mdp_jax.training.adopting import adopt
from tests import earlier, tiny

CONFIG = """
from mdp_jax import configs

def get_config():
    config = configs.finetune()
    config.dataset = configs.synthetic("valley", images=6, val_images=3, size=(40, 48))
    return config
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(earlier.unpacked(tmp_path))
    (tmp_path / "valley.py").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("layer", ["backbone", "decoder"])
@pytest.mark.parametrize("head", HEADS)
def test_what_it_leaves_is_a_segmenter(folder, layer, head, capsys):
    words = [
        "--checkpoint",
        "pretrained",
        "--config",
        "valley.py",
        "--workdir",
        "new",
        "--layer",
        layer,
        "--head",
        head,
    ]
    assert cli.run(["adopt", *words]) == 0
    assert "adopted in" in capsys.readouterr().out
    scores = json.loads((folder / "new" / "evaluation.json").read_text())["datasets"]["valley"]
    assert scores["images"] == 3 and scores["aAcc"] > 0
    before = (folder / "new" / "evaluation.json").read_text()
    assert cli.run(["evaluate", "--checkpoint", "new"]) == 0
    assert (folder / "new" / "evaluation.json").read_text() == before


def test_the_network_answers_as_a_loop_over_features_does(folder):
    config = tiny.finetune_config()
    found = adopt("pretrained", config, "new")
    net, old = mdp_jax.load("new"), mdp_jax.load("pretrained")
    typed = configs.typed(config)
    source = sources.open_source(typed.dataset, typed.data, "", "train", 0, scored=True)
    statistics = Statistics.empty(len(source.classes), 8)
    for i in range(len(source)):
        features = old.embed(source[i]["image"], "backbone")
        shares = discriminant.shares_of_cells(source[i]["label"], features.shape[:2], len(source.classes))
        statistics.add(features.reshape(-1, 8), shares, i)
    linear = discriminant.linear_discriminant(statistics, found.shrinkage)
    classifier = net.variables["params"]["classifier"]["conv"]
    np.testing.assert_allclose(
        classifier["kernel"][0, 0], linear.kernel, rtol=1e-4, atol=1e-4 * np.abs(linear.kernel).max()
    )
    assert found.photos.tolist() == statistics.photos.tolist()
    assert net.classes == source.classes


def test_a_class_without_a_pixel_is_named_and_never_predicted(folder):
    config = tiny.finetune_config(dataset__limit=1)
    found = adopt("pretrained", config, "new")
    missing = found.unseen()
    assert missing
    net = mdp_jax.load("new")
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not {net.classes[i] for i in np.unique(net.predict(photo))} & set(missing)


def test_a_finetuned_network_can_be_adopted_from(folder):
    adopt("finetuned", tiny.finetune_config(), "new", layer="decoder")
    assert mdp_jax.load("new").datasets == ("valley",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": "logits"}, "--layer logits: expected some of backbone, decoder, projection"),
        ({"head": "svm"}, "--head svm: expected one of lda, prototypes"),
        ({"shrinkage": 0.0}, "--shrinkage 0.0: expected more than 0"),
        ({"checkpoint": "nowhere"}, "nowhere: no such file or folder"),
        ({"folder": "finetuned"}, "--workdir finetuned: holds a run; expected a new folder"),
        ({"config": tiny.pretrain_config()}, "the config of another part of mdp; expected the config of mdp finetune"),
    ],
)
def test_what_cannot_be(folder, values, message):
    arguments = {"checkpoint": "pretrained", "config": tiny.finetune_config(), "folder": "new"} | values
    with pytest.raises(UserError, match=message):
        adopt(**arguments)
    assert not (folder / "new" / "config.json").exists()
