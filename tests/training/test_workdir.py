"""The folder of a run: when it goes on, what is taken from another one, where it cannot be."""

import pathlib

import jax
import numpy as np
import pytest

from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import workdir
from mdp_jax.training.transfer import remarks_on_classes, remarks_on_layers, transfer
from tests import tiny

SPACE = LabelSpace((("first", ("a", "b")),))


def save(folder, dtype, step=3):
    """A checkpoint of one kernel and its running mean; returns the kernel."""
    kernel = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype)
    state = {"params": {"backbone": {"kernel": kernel}}, "batch_stats": {"backbone": {"mean": kernel[0]}}}
    with jax.enable_x64(True):
        checkpoints = Checkpoints(folder)
        checkpoints.save(step, jax.tree.map(jax.numpy.asarray, state), {})
        checkpoints.close()
    return kernel


def test_a_step_that_was_being_written_is_no_checkpoint(tmp_path):
    """So a run with --init that was killed in its first save takes the weights again."""
    assert not workdir.has_checkpoints(tmp_path)
    (tmp_path / "checkpoints" / "1000.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not workdir.has_checkpoints(tmp_path)
    save(tmp_path, np.float32)
    assert workdir.has_checkpoints(tmp_path)


@pytest.mark.parametrize(("saved", "wanted"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_weights_of_another_precision(tmp_path, saved, wanted):
    kernel = save(tmp_path, saved)
    new = np.zeros((2, 3), wanted)
    params, stats, *_ = transfer(
        str(tmp_path), ("backbone",), {"backbone": {"kernel": new}}, {"backbone": {"mean": new[0]}}
    )
    found = params["backbone"]["kernel"], stats["backbone"]["mean"]
    assert [leaf.dtype for leaf in found] == [wanted, wanted]
    np.testing.assert_array_equal(found[0], kernel.astype(wanted))
    np.testing.assert_array_equal(found[1], kernel[0].astype(wanted))


def test_a_classifier_of_other_classes_is_remarked_on(tmp_path):
    LabelSpace((("set", ("sky", "road")),)).save(tmp_path / "label_space.json")
    other, same = (LabelSpace((("other", names),)) for names in (("sky", "street"), ("sky", "road")))
    (said,) = remarks_on_classes(str(tmp_path), ("backbone", "classifier"), other)
    assert "class 1 is 'road' there and 'street' here; the classifier is taken all the same" in said
    assert not remarks_on_classes(str(tmp_path), ("backbone", "classifier"), same)
    assert not remarks_on_classes(str(tmp_path), ("backbone",), other)


def test_a_classifier_on_other_layers_is_remarked_on(tmp_path):
    workdir.start(tmp_path, tiny.finetune_config(model__reads="('backbone','projection')"), SPACE)
    both = ("backbone", "classifier")
    (said,) = remarks_on_layers(str(tmp_path), both, ("decoder",))
    assert "the classifier stands on backbone and projection there and on decoder here" in said
    assert not remarks_on_layers(str(tmp_path), both, ("backbone", "projection"))
    assert not remarks_on_layers(str(tmp_path), ("backbone",), ("decoder",))
    file = str(tmp_path / "net.safetensors")
    assert not remarks_on_layers(file, both, ("decoder",))
    assert remarks_on_layers(file, both, ("projection",))


@pytest.mark.parametrize("left", ["label_space.json", "label_space.json.partial"])
def test_a_run_that_was_killed_while_it_made_its_folder_can_start(tmp_path, left):
    config = tiny.pretrain_config()
    (tmp_path / left).write_text("[")
    workdir.require_free_or_same(tmp_path, config, SPACE)
    workdir.start(tmp_path, config, SPACE)
    workdir.require_free_or_same(tmp_path, config, SPACE)
    (tmp_path / "config.json").unlink()
    (tmp_path / "report.html").write_text("")
    with pytest.raises(UserError, match=r"not empty and without config\.json"):
        workdir.require_free_or_same(tmp_path, config, SPACE)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"count": 4, "names": "aa"}, "dataset 'first' has 4 photos, and had 3 when the run began; expected those"),
        ({"count": 3, "names": "bb"}, "dataset 'first' has photos of other names than when the run began"),
        (
            {"count": 3, "names": "aa", "content": "d"},
            "dataset 'first' has photos whose files hold something else than when the run began",
        ),
    ],
)
def test_going_on_with_other_photos(tmp_path, now, message):
    meta = {"label_space": SPACE.rows(), "photos": {"first": {"count": 3, "names": "aa", "content": "c"}}}
    state = {"kernel": jax.numpy.ones(2)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, meta)
    checkpoints.close()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    with pytest.raises(UserError, match=message):
        workdir.restore(Checkpoints(tmp_path), state, shardings, SPACE, {"first": now})


def test_a_checkpoint_that_knows_nothing_of_the_content():
    """Those of earlier versions: names alone are compared."""
    now = {"first": {"count": 3, "names": "aa", "content": "c"}}
    for content in ({}, {"content": sources.NO_CONTENT}):
        before = {"photos": {"first": {"count": 3, "names": "aa"} | content}}
        workdir.require_same_photos(before, now, now, pathlib.Path("run"))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"count": 2, "names": "v"}, "has 2 validation photos, and had 1 when"),
        ({"count": 1, "names": "w"}, "has validation photos of other names than when"),
        ({"count": 1, "names": "v", "content": "d"}, "has validation photos whose files hold something else than"),
    ],
)
def test_validations_of_other_photos_are_not_compared(now, message):
    photos = {"first": {"count": 3, "names": "aa", "content": "c"}}
    meta = {"photos": photos, "scored": {"first": {"count": 1, "names": "v", "content": "c"}}}
    with pytest.raises(UserError, match=f"run: dataset 'first' {message}"):
        workdir.require_same_photos(meta, photos, {"first": now}, pathlib.Path("run"))


def test_what_processes_must_agree_on(monkeypatch):
    asked = {}
    monkeypatch.setattr(workdir.distributed, "require_agreement", asked.update)
    photos = {"first": {"count": 3, "names": "0123456789abcdef"}}
    workdir.require_agreement(tiny.pretrain_config(), SPACE, photos)
    assert asked["dataset 'first'"] == "3 photos, 0123456789ab"
    assert asked["config.seed"] == 0 and asked["label space 0"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir .*file/run: Not a directory; expected a folder that can be made"):
        workdir.start(tmp_path / "file" / "run", tiny.pretrain_config(), SPACE)
