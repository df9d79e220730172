"""`mdp adopt`: a new set on a trained network, and what is refused."""

import json

import jax
import numpy as np
import pytest

import mdp_jax
from mdp_jax import cli, configs
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant, workdirs
from mdp_jax.evaluation.discriminant import Statistics
from mdp_jax.reporting import runs
from mdp_jax.storage import checkpoints
from mdp_jax.training import appending, sharding, workdir
from mdp_jax.training.adopting import adopt
from mdp_jax.training.editing import Edits, edit
from tests import earlier, tiny
from tests.data.fixtures import write_folder
from tests.weights import seeded_weights

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


@pytest.mark.parametrize(
    ("layer", "head"),
    [("backbone", "lda"), ("decoder", "prototypes"), ("backbone+projection", "lda")],
)
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
    found = json.loads((folder / "new" / "evaluation.json").read_text())
    scores = found["datasets"]["valley"]
    assert scores["images"] == 3 and scores["aAcc"] > 0
    assert found["photos"]["valley"]["count"] == 3  # so that other photos are told from these
    assert mdp_jax.load("new").layers[-1] == layer.split("+")[-1]
    before = (folder / "new" / "evaluation.json").read_text()
    assert cli.run(["evaluate", "--checkpoint", "new"]) == 0
    assert " shape, without a training step" in capsys.readouterr().out
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


def test_photos_for_a_file_are_normalised_as_the_config_says(folder):
    """A file does not say how its photos were; a workdir does."""
    run, _ = seeded_weights.finetuned(folder / "run")
    assert cli.run(["convert", "--from", "mdp", "--to", "timm", "--backbone", str(run), "body.safetensors"]) == 0
    grey = "(127.5, 127.5, 127.5)"
    config = tiny.finetune_config(data__mean=grey, data__std=grey)
    for checkpoint, mean in (("body.safetensors", 127.5), (str(run), 123.675)):
        place = folder / f"adopted_{mean}"
        adopt(checkpoint, config, str(place))
        assert mdp_jax.load(place).data.mean[0] == mean


def test_scores_by_budget_are_those_of_segmenters(folder, capsys):
    """From all photos the score is that of the segmenter; a workdir that has begun is gone on with."""
    words = ["--checkpoint", "pretrained", "--config", "valley.py", "--photos", "2", "all", "--draws", "3"]
    assert cli.run(["adopt", *words, "--workdir", "scores"]) == 0
    assert "mean of the rows" in capsys.readouterr().out
    found = json.loads((folder / "scores" / "budgets.json").read_text())
    assert list(found["cells"]) == ["backbone/2", "backbone/all"]
    assert [len(cell["draws"]) for cell in found["cells"].values()] == [3, 1]
    assert found["mIoU"] == pytest.approx(np.mean([cell["mIoU"] for cell in found["cells"].values()]))
    assert cli.run(["adopt", *words[:4], "--workdir", "new"]) == 0
    alone = json.loads((folder / "new" / "evaluation.json").read_text())["datasets"]["valley"]["mIoU"]
    assert found["cells"]["backbone/all"]["mIoU"] == pytest.approx(alone, abs=0.1)
    with pytest.raises(UserError, match=r"--workdir scores: holds budgets.json; expected a new folder"):
        cli.run(["adopt", *words, "--workdir", "scores"])
    (folder / "scores" / "budgets.json").unlink()
    assert cli.run(["adopt", *words, "--workdir", "scores"]) == 0
    again = json.loads((folder / "scores" / "budgets.json").read_text())
    assert again["cells"] == found["cells"]


def test_a_set_in_the_bank(folder, capsys):
    """The new rows are the prototypes of the set; all else is what it was, bit for bit, and training can go on."""
    words = ["--checkpoint", "pretrained", "--config", "valley.py", "--workdir", "grown", "--head", "prototypes"]
    note = {"source": "step 2 of the workdir all", "trained on": [{"name": "meadow", "classes": 4, "license": "CC0"}]}
    (folder / "pretrained" / runs.EDITED).write_text(json.dumps(note))
    assert cli.run(["adopt", *words, "--append"]) == 0
    assert runs.read_edited(folder / "grown") == note  # what mdp edit-bank had taken out before
    saved = checkpoints.load(folder / "grown")
    assert saved.meta["ledger"][-1] == [0] * len(saved.meta["ledger"][0]) and len(saved.meta["ledger"]) == 3
    edited = edit("grown", "without", Edits(drop=[("town",)]))
    assert edited.step == 4 and {name.split("/")[0] for name in edited.gone} == {"town"}
    without = checkpoints.load(folder / "without").meta["ledger"]
    assert [row[0] for row in without] == [saved.meta["ledger"][0][0], 0]
    before, after = checkpoints.load(folder / "pretrained").state, saved.state
    old, new = before["memory"].pop("bank"), after["memory"].pop("bank")
    jax.tree.map(np.testing.assert_array_equal, before, after)
    for name in old:
        np.testing.assert_array_equal(old[name], new[name][: len(old[name])])
    net = mdp_jax.load("grown", dataset="valley")
    assert len(net.prototypes) == len(net.classes) == len(new["vectors"]) - len(old["vectors"])
    np.testing.assert_allclose(np.linalg.norm(new["vectors"][-1]), 1, rtol=1e-5)
    scores = json.loads((folder / "grown" / "evaluation.json").read_text())["datasets"]
    assert list(scores) == ["harbor", "town", "valley"] and scores["valley"]["aAcc"] > 0
    config = workdirs.load("grown").config
    program = tiny.pretraining(config, sharding.make_mesh(1, 1), LabelSpace.load(folder / "grown" / "label_space.json"))
    kept = workdir.checkpoints(folder / "grown", configs.typed_pretrain(config))
    shapes = jax.eval_shape(program.make)
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, program.shardings)
    restored = kept.restore(target)
    kept.close()
    assert int(restored.state.step) == 4
    np.testing.assert_array_equal(tiny.bank(restored.state).vectors, new["vectors"])


def test_a_bank_that_counts_no_pixels():
    """As without `class_frequencies`."""
    old = {"vectors": np.eye(2, 3, dtype=np.float32), "images_seen": np.array([1, 2], np.int32), "pixels": None}
    rows = {"vectors": np.ones((1, 3)), "images_seen": np.array([3.0]), "pixels": np.array([4.0])}
    bank = appending._appended(old, rows)
    assert bank["pixels"] is None and bank["images_seen"].tolist() == [1, 2, 3]
    assert bank["vectors"].dtype == np.float32 and bank["vectors"].tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]]


def test_a_single_photo(folder, capsys):
    """It leaves nothing to choose a shrinkage by."""
    words = ["--checkpoint", "pretrained", "--config", "valley.py", "--workdir", "new", "--config.dataset.limit=1"]
    assert cli.run(["adopt", *words]) == 0
    assert "shrinkage: 0.01" in capsys.readouterr().out


def _with_label(monkeypatch, change):
    """Labels of all photos changed."""
    opened = sources.open_source

    class Changed:
        def __init__(self, source):
            self._source = source

        def __getattr__(self, name):
            return getattr(self._source, name)

        def __len__(self):
            return len(self._source)

        def __getitem__(self, index):
            sample = self._source[index]
            return sample | {"label": change(sample["label"])}

    monkeypatch.setattr(sources, "open_source", lambda *args, **rest: Changed(opened(*args, **rest)))


def test_a_label_that_the_set_does_not_have(folder, monkeypatch):
    _with_label(monkeypatch, lambda label: np.full_like(label, 90))
    with pytest.raises(UserError, match=r"valley.*: label 90; expected ids below \d+, or ignore"):
        adopt("pretrained", tiny.finetune_config(), "new")
    assert not (folder / "new").exists()


def test_a_single_class(folder, monkeypatch, capsys):
    _with_label(monkeypatch, lambda label: np.where(label == 0, 0, -1).astype(label.dtype))
    assert cli.run(["adopt", "--checkpoint", "pretrained", "--config", "valley.py", "--workdir", "new"]) == 0
    said = capsys.readouterr().out
    name = mdp_jax.load("new").classes[0]
    assert f"warning: {name} is the only class with a labelled pixel; every pixel will be {name}" in said


def test_a_checkpoint_of_a_newer_format(folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 0)
    with pytest.raises(UserError, match=r"of another version of mdp_jax \(format \d\)"):
        adopt("pretrained", tiny.finetune_config(), "new")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draws", "3"], "--draws: expected --photos too"),
        (["--layer", "backbone", "decoder"], "--layer backbone decoder: expected --photos too; several layers under"),
        (["--append"], "--append: expected --head prototypes"),
        (["--photos", "99"], "--photos 99: expected at most 6, the number of labelled photos, or all"),
        (["--shrinkage", "much"], "much: expected a number above 0, or auto"),
        (["--append", "--head", "prototypes", "--checkpoint", "multi_head"], "which has no prototypes"),
        (["--append", "--head", "prototypes", "--checkpoint", "finetuned"], "finetuned is no workdir of mdp pretrain"),
        (["--append", "--head", "prototypes", "--config.dataset.name=town"], "has a set 'town' already"),
        (["--layer", "projection", "--checkpoint", "finetuned"], "this network has no projection; expected backbone"),
    ],
)
def test_wrong_use_is_one_line_and_nothing_is_written(folder, words, message):
    with pytest.raises(UserError) as error:
        cli.run(["adopt", "--checkpoint", "pretrained", "--config", "valley.py", "--workdir", "new", *words])
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": "logits"}, "--layer logits: expected some of backbone, decoder, projection"),
        ({"head": "svm"}, "--head svm: expected one of lda, prototypes"),
        ({"shrinkage": 0.0}, "--shrinkage 0.0: expected more than 0"),
        ({"checkpoint": "nowhere"}, "nowhere: no such file or folder"),
        ({"folder": "finetuned"}, "--workdir finetuned: holds a run; expected a new folder"),
        ({"config": tiny.pretrain_config()}, "the config of mdp pretrain; expected one of mdp finetune"),
    ],
)
def test_what_cannot_be(folder, values, message):
    arguments = {"checkpoint": "pretrained", "config": tiny.finetune_config(), "folder": "new"} | values
    with pytest.raises(UserError, match=message):
        adopt(**arguments)
    assert not (folder / "new" / "config.json").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_bad_photo_of_either_split_is_found_before_anything_is_written(folder, split):
    root = write_folder(folder / "streets", size=(40, 48))
    photo = root / "images" / split / "p3.jpg"
    photo.write_bytes(photo.read_bytes()[:-50])
    config = tiny.finetune_config(data__check_files=5000)
    with config.unlocked():
        config.dataset = configs.folder("streets", root=str(root))
    with pytest.raises(UserError, match=rf"{split}/p3\.jpg is truncated"):
        adopt("pretrained", config, "out")
    assert not (folder / "out").exists()


def test_weights_that_are_not_finite_are_named(folder):
    saved = checkpoints.load(folder / "finetuned")
    saved.state["params"]["classifier"]["conv"]["bias"] = np.full_like(
        saved.state["params"]["classifier"]["conv"]["bias"], np.nan
    )
    again = checkpoints.Checkpoints(folder / "finetuned")
    again.save(int(saved.state["step"]) + 1, saved.state, saved.meta)
    again.close()
    with pytest.raises(UserError, match=r"checkpoints: params/classifier/conv/bias is not finite"):
        workdirs.load(folder / "finetuned")
