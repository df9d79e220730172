"""What one asks after training: the best checkpoint, its scores and pictures, and a run that goes on from another."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

import mdp_jax
from mdp_jax import config as configs
from mdp_jax.cli import run as mdp
from mdp_jax.data import sources
from mdp_jax.errors import PreemptedError, UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.exporting import card, exporting
from mdp_jax.storage import checkpoints
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training.adopting import adopt
from mdp_jax.training.best import Best
from mdp_jax.training.finetuning import finetune
from mdp_jax.training.pretraining import pretrain
from mdp_jax.training.signals import Stop
from tests import tiny

pytestmark = pytest.mark.usefixtures("shallow", "shared_programs")
SCORES = {4: 30.0, 8: 50.0, 12: 40.0, 16: 35.0}  # in place of those of the validations, which are alike


def config(steps=12, **overrides):
    """A run with a constant learning rate, so that it does not matter how long it is going to be."""
    every = {"evaluate_every": 4, "checkpoint_every": 4, "keep_checkpoints": 4, "log_every": 2, "optim__power": 0.0}
    every |= {"devices": 1}
    return tiny.finetune_config(steps=steps, **every, **overrides)


@pytest.fixture(scope="module", autouse=True)
def the_second_validation_is_the_best():
    genuine = Best.offer

    def offer(self, step, state, score, meta, prove=True):
        assert score is not None
        return genuine(self, step, state, SCORES[step], meta, prove)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Best, "offer", offer)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir whose best step is 8 of 12, and what the run returned."""
    folder = tmp_path_factory.mktemp("after") / "run"
    return folder, finetune(config(pictures=2), folder)


def assert_same_best(ours, expected):
    found, wanted = (checkpoints.choose(folder, "best") for folder in (ours, expected))
    jax.tree.map(np.testing.assert_array_equal, found.saved.state, wanted.saved.state)
    ours_meta, meta = ({**one.saved.meta, "config": None} for one in (found, wanted))
    assert ours_meta == meta
    assert [path.name for path in (ours / "best").iterdir()] == ["8"]


def test_the_best_is_the_state_of_its_step(run):
    best, same = (checkpoints.choose(run[0], which) for which in ("best", "8"))
    assert (best.step, best.newest, best.saved.meta["mIoU"]) == (8, 12, 50.0)
    jax.tree.map(np.testing.assert_array_equal, best.saved.state, same.saved.state)


def test_scores_and_files_are_those_of_the_best(run, capsys):
    folder, returned = run
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["checkpoint"] == {"step": 8, "best": True}
    assert found["datasets"]["valley"] == returned
    of_step = next(row for row in read_metrics(folder) if row["step"] == 8 and "val_mIoU" in row)
    assert returned["mIoU"] == of_step["val_mIoU"]  # of the network as it was read back
    before = (folder / "evaluation.json").read_bytes(), (folder / "confusion.csv").read_bytes()
    mdp(["evaluate", "--checkpoint", str(folder), "--page"])
    assert before == ((folder / "evaluation.json").read_bytes(), (folder / "confusion.csv").read_bytes())
    printed = capsys.readouterr()
    assert "the best checkpoint, of step 8 (mIoU 50.00 % when it was validated); --step last takes the" in printed.err
    assert (folder / "evaluation.html").read_text().count("data:image/png;base64,") == 3
    mdp(["evaluate", "--checkpoint", str(folder), "--step", "last"])
    last = json.loads((folder / "evaluation_step12.json").read_text())
    assert last["checkpoint"] == {"step": 12, "best": False}
    assert last["datasets"]["valley"]["mIoU"] == read_metrics(folder)[-1]["val_mIoU"]
    assert before[0] == (folder / "evaluation.json").read_bytes()


@pytest.mark.usefixtures("plain_pages")
def test_a_best_checkpoint_that_is_there_is_scored_where_none_is_kept_any_more(run, tmp_path):
    """Commands take it, so evaluation.json has to be of it."""
    folder = shutil.copytree(run[0], tmp_path / "run")
    assert finetune(config(pictures=2, keep_best=False), folder) == run[1]
    assert json.loads((folder / "evaluation.json").read_text())["step"] == workdirs.load(folder).step == 8


def test_the_confusion_matrix_counts_every_labelled_pixel(run):
    folder, scores = run
    (_, *classes), *rows = csv.reader((folder / "confusion.csv").open())
    assert classes == list(scores["per_class"]) == [row[0] for row in rows]
    counts = np.array([row[1:] for row in rows], int)
    values = workdirs.load(folder).config
    source = sources.open_source(values.dataset, values.data, "", "val", values.seed)
    labels = np.concatenate([source[index]["label"].ravel() for index in range(len(source))])
    np.testing.assert_array_equal(counts.sum(axis=1), [(labels == index).sum() for index in range(len(classes))])
    assert scores["aAcc"] == pytest.approx(100 * np.trace(counts) / counts.sum())


def test_the_page_and_tensorboard_have_the_pictures(run):
    page = (run[0] / "report.html").read_text()
    for heading in ("Confusions", "Worst and best photos", "best: step 8", "last: step 12"):
        assert heading in page
    (events,) = run[0].glob("events.out.tfevents.*")
    assert events.read_bytes().count(b"validation photos") == 3 and b"\x89PNG" in events.read_bytes()


def test_everything_takes_the_best_unless_told_otherwise(run, tmp_path, capsys):
    folder = run[0]
    taken = {which: workdirs.load(folder, step=which) for which in ("", "last", "4")}
    assert {which: one.step for which, one in taken.items()} == {"": 8, "last": 12, "4": 4}
    kernels = {which: one.variables["params"]["classifier"]["conv"]["kernel"] for which, one in taken.items()}
    for step, which in (("", ""), ("last", "last"), (4, "4")):
        loaded = mdp_jax.load(folder, step=step).variables["params"]["classifier"]["conv"]["kernel"]
        np.testing.assert_array_equal(loaded, kernels[which])
    assert not np.array_equal(kernels[""], kernels["last"])
    capsys.readouterr()
    mdp(["convert", "--from", "mdp", "--to", "mmseg", str(folder), str(tmp_path / "best.safetensors")])
    assert "weights of step 8, the best" in capsys.readouterr().out
    mdp(["convert", "--from", "mdp", "--to", "mmseg", "--step", "4", str(folder), str(tmp_path / "x.safetensors")])
    assert "weights of step 4\n" in capsys.readouterr().out
    chosen = exporting._opened(folder, (), "4", "").run
    assert chosen.step == 4 and "this checkpoint was not scored" in card._scores(chosen)
    assert "| valley | " in card._scores(exporting._opened(folder, (), "", "").run)
    net = tiny.finetune_config(dataset__limit=2)
    adopt(folder, net, tmp_path / "adopted", layer="decoder", step="last")
    kept = checkpoints.load(tmp_path / "adopted").state["params"]["decoder"]
    jax.tree.map(np.testing.assert_array_equal, kept, jax.device_get(taken["last"].variables["params"]["decoder"]))
    with pytest.raises(UserError, match="--step 4: scratch has no steps"):
        adopt("scratch", net, tmp_path / "new", step=4)
    with pytest.raises(UserError, match="--step 5: no checkpoint of this step"):
        mdp(["evaluate", "--checkpoint", str(folder), "--step", "5"])
    with pytest.raises(UserError, match="newest: expected best, last or the number of a step"):
        mdp(["evaluate", "--checkpoint", str(folder), "--step", "newest"])


class Killed(Exception):
    """Stands for what ends a process."""


@pytest.mark.usefixtures("plain_pages")
def test_a_run_that_is_killed_and_stopped_ends_with_the_same_best(run, monkeypatch, tmp_path):
    folder, genuine = tmp_path / "run", Checkpoints.save

    def save(self, step, *args, **kwargs):
        if self.folder.name == "checkpoints" and step == 8:
            raise Killed
        genuine(self, step, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", save)
        finetune(config(), folder)
    # The best is of a step that the run will take again.
    assert (Best(folder).step, checkpoints.choose(folder, "last").step) == (8, 4)
    assert_same_best(folder, run[0])
    with monkeypatch.context() as patch, pytest.raises(PreemptedError, match="goes on after step 8"):
        patch.setattr(Stop, "reached", tiny.stop_after(4))
        finetune(config(), folder)
    assert_same_best(folder, run[0])
    shutil.rmtree(folder / "best")
    finetune(config(), folder)  # which validates step 8, as it was stopped before that
    assert_same_best(folder, run[0])
    scored = [[row for row in read_metrics(one) if "val_mIoU" in row] for one in (folder, run[0])]
    assert [row["step"] for row in scored[0]] == [4, 8, 12] and scored[0] == scored[1]


@pytest.mark.usefixtures("plain_pages")
def test_a_run_that_goes_on_beside_an_earlier_best(run, tmp_path, monkeypatch, capsys):
    """Its scores are of the checkpoint that other commands take; the best of other photos is no best."""
    folder, genuine = tmp_path / "run", sources.photos_of
    shutil.copytree(run[0], folder)
    finetune(config(keep_best=False), folder)
    assert f"{folder}/best: the best checkpoint so far, of step 8, stays what mdp evaluate" in capsys.readouterr().err
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["checkpoint"] == {"step": 8, "best": True} and workdirs.load(folder).step == 8

    def photos_of(source):
        return genuine(source) | ({"count": 99} if source.split == "val" else {})

    monkeypatch.setattr(sources, "photos_of", photos_of)
    other = r"dataset 'valley' has 99 validation photos, and had \d+ when the run began"
    with pytest.raises(UserError, match=f"checkpoints: {other}"):
        finetune(config(), folder)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UserError, match=f"best: {other}"):
        finetune(config(), folder)


def test_going_on_from_a_run_is_as_if_it_had_not_ended(run, tmp_path, capsys):
    finetune(config(continue_from=run[0], continue_step=8), tmp_path / "longer")
    states = [checkpoints.choose(folder, "last").saved.state for folder in (tmp_path / "longer", run[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert [row["step"] for row in read_metrics(tmp_path / "longer") if "loss" in row] == [10, 12]
    assert "going on from step 8 of the workdir" in capsys.readouterr().err
    origins = json.loads((tmp_path / "longer" / "transfer.json").read_text())
    assert origins["source"] == f"step 8 of the workdir {run[0]}, with its momenta"
    assert all(row["leaf"] == row["from"] for row in origins["leaves"])
    assert "Where the weights come from" in (tmp_path / "longer" / "report.html").read_text()
    # Started again it is the same run, by whatever name the other workdir is called.
    other = run[0].parent / ".." / run[0].parent.name / "run"
    configs.require_same(
        configs.load_json(tmp_path / "longer" / "config.json"), config(continue_from=other, continue_step=8), "w"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"steps": 12}, r"config\.steps=12: --continue_from .* has taken 12 steps already; expected more than that"),
        ({"steps": 16, "init": "w"}, r"config\.continue_from='.*' and config\.init='w': expected one of them"),
        (
            {"steps": 16, "trainable": "head"},
            r"--continue_from .*: another optimizer: opt_state/.* config.trainable dec",
        ),
        (
            {"steps": 16, "optim__clip_norm": "1.0"},
            r"another optimizer: opt_state/.*; expected .* clip_norm and layer_d",
        ),
        (
            {"steps": 16, "continue_step": "first"},
            r"continue_step='first': expected last, best or the number of a step",
        ),
        ({"steps": 16, "continue_step": "9"}, r"--step 9: no checkpoint of this step"),
    ],
)
def test_what_cannot_be_gone_on_from(run, tmp_path, overrides, message, monkeypatch):
    """It is said before photos are read, which may take long."""
    monkeypatch.setattr(sources, "check_source", lambda *_, **__: pytest.fail("photos were read"))
    with pytest.raises(UserError, match=message):
        finetune(config(continue_from=run[0], **overrides), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("plain_pages")
def test_a_pretraining_goes_on_as_if_it_had_not_ended(tmp_path, capsys, monkeypatch):
    def of(**values):
        return tiny.pretrain_config(steps=4, checkpoint_every=2, keep_every=2, log_every=2, **values)

    pretrain(of(), tmp_path / "whole")
    pretrain(of(continue_from=str(tmp_path / "whole"), continue_step="2"), tmp_path / "longer")
    whole, longer = (checkpoints.choose(tmp_path / name, "last").saved for name in ("whole", "longer"))
    assert set(longer.state) >= {"params", "opt_state", "memory"}
    jax.tree.map(np.testing.assert_array_equal, longer.state, whole.state)
    for name in ("ledger", "last_seen"):  # of the photos that both runs took
        assert longer.meta[name] == whole.meta[name]
    assert "going on from step 2 of the workdir" in capsys.readouterr().err
    monkeypatch.setattr(sources, "check_source", lambda *_, **__: pytest.fail("photos were read"))
    with pytest.raises(UserError, match="another architecture: params/"):
        pretrain(of(continue_from=str(tmp_path / "whole"), model__width=0.125), tmp_path / "new")
    with pytest.raises(UserError, match="has taken 4 steps already"):
        pretrain(of(continue_from=str(tmp_path / "whole")), tmp_path / "new")
    with pytest.raises(UserError, match="the workdir of mdp pretrain; expected one of mdp finetune, or --init"):
        finetune(config(continue_from=tmp_path / "whole"), tmp_path / "new")


def test_a_finetuning_is_no_pretraining_to_go_on_from(run, tmp_path):
    with pytest.raises(UserError, match="the workdir of mdp finetune; expected one of mdp pretrain, or --init"):
        pretrain(tiny.pretrain_config(continue_from=str(run[0])), tmp_path / "new")


def test_step_belongs_to_continue_from(tmp_path):
    words = ["finetune", "--config", "configs/mini/camvid11.py", "--workdir", str(tmp_path / "w"), "--step", "best"]
    with pytest.raises(
        UserError, match="--step best: says which checkpoint of --continue_from; expected --continue_from"
    ):
        mdp(words)
