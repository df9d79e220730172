"""`mdp reproduce`: wrong use, lists, and a tiny suite from end to end, stopped and started again."""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from mdp_jax.commands import reproduce
from mdp_jax.errors import PreemptedError, UserError
from mdp_jax.studies import runs, score_files, suite_files
from mdp_jax.studies.engine import Engine
from mdp_jax.studies.experiments import Contrast, Suite
from tests.end_to_end import processes
from tests.studies.test_results import SCORES
from tests.studies.tiny import suite


def command(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    return parser.parse_args(["--suite", "mini-synthetic", *words])


def smallest() -> Suite:
    """Scratch and MDP at one target: three runs."""
    whole = suite()
    rows = [vars(row) | {"targets": ("few",)} for row in whole.pretrainings[:2]]
    rows = tuple(type(whole.pretrainings[0])(**row) for row in rows)
    return Suite("tiny", whole.what, rows, whole.targets[:1], whole.claims[:1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mini-real"], "--data_dir: missing; expected the folder that holds camvid11"),
        (["mini-real", "--data_dir", "nowhere"], "nowhere: no folder camvid11 in it"),
        (
            ["tiny"],
            f"--suite tiny: expected one of {', '.join(suite_files.shipped())}, or a Python file with",
        ),
        (["tiny.py"], "--suite tiny.py: expected one of"),
        (["mini-synthetic", "--seeds", "0"], "0: expected a whole number from 1"),
        (["mini-synthetic", "--only", "mpd"], "--only mpd: not in mini-synthetic; expected one of scratch, mdp,"),
        (["mini-synthetic", "--jobs", "9999"], "--jobs 9999: 9,999 runs at once; expected 1 to "),
        (["mini-synthetic", "--gpus", "0", "0"], "--gpus 0 0: 0 is there twice; expected each device once"),
        (["mini-synthetic", "--docs", ""], "--docs: an empty text; expected a path"),
        (["mini-synthetic", "--json", "no/rows.json"], "--json no/rows.json: expected a file in a folder that exists"),
        (["mini-synthetic", "--docs", "no"], "--docs no: expected a folder that exists"),
        (["mini-synthetic", "--config.steps=1"], "--config.steps: the settings of a suite are fixed"),
        (["full", "--results"], "--suite full: is only listed; expected no --results, --scores, --json or --docs"),
        (
            ["mini-synthetic", "--scores", "no.json"],
            "no.json cannot be read (No such file or directory); expected the scores",
        ),
        (["mini-synthetic", "--jobs", "1", "--gpus", "0", "1"], "not allowed with argument"),
        (["mini-synthetic", "--list", "--results"], "not allowed with argument"),
        (
            ["mini-synthetic", "--list", "--json", "rows.json"],
            "--list: runs are listed, not judged; expected",
        ),
        (
            ["mini-synthetic", "--results", "--workdir", "w"],
            "--workdir w: no folder mini-synthetic in it",
        ),
    ],
)
def test_wrong_use_is_one_line_and_nothing_runs(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "Engine", None)
    with pytest.raises(UserError) as error:
        cli.run(["reproduce", "--suite", *words])
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_list(tmp_path, capsys):
    assert (
        cli.run(["reproduce", "--suite", "mini-synthetic", "--list", "--workdir", str(tmp_path), "--seeds", "1"]) == 0
    )
    out, err = capsys.readouterr()
    assert "| more_sets_over_town | three sets are better than town alone |" in out
    assert "mdp/seed0/valley_25_probe" in err and "missing" in err and "0 finished" in err
    assert not list(tmp_path.iterdir())


def test_full_is_listed_with_its_commands(tmp_path, capsys):
    cli.run(["reproduce", "--suite", "full", "--workdir", str(tmp_path), "--seeds", "1"])
    out, err = capsys.readouterr()
    assert "mdp pretrain --config configs/pretrain/voc_ade.py --workdir mdp/seed0/pretrain" in out
    assert "device hours" in err and "TPU v5e" in err
    assert not list(tmp_path.iterdir())


def test_only_a_seed_that_no_target_has(tmp_path):
    whole = smallest()
    rows = tuple(dataclasses.replace(row, seeds=2) for row in whole.pretrainings)
    of_seed_0 = tuple(dataclasses.replace(target, seeds=(0,)) for target in whole.targets)
    whole = dataclasses.replace(whole, pretrainings=rows, targets=of_seed_0)
    with pytest.raises(UserError, match="--only mdp/seed1: no target is run for it; expected a seed that a target has"):
        reproduce.reproduce(whole, command("--workdir", str(tmp_path), "--only", "mdp/seed1"), [])
    assert not list(tmp_path.iterdir())


def test_a_suite_that_is_only_listed(tmp_path, capsys):
    """A user's, too: with the hours that it gives, or without; a mistake in its function is one line."""
    listed = dataclasses.replace(smallest(), runs_here=False)
    reproduce.reproduce(listed, command("--workdir", str(tmp_path)), [])
    out, err = capsys.readouterr()
    assert "mdp pretrain --config" in out and err.startswith("3 runs\n")
    timed = dataclasses.replace(listed, hours=lambda run: 0.5, device="laptop")
    reproduce.reproduce(timed, command("--workdir", str(tmp_path)), [])
    assert capsys.readouterr().err.startswith("3 runs, 2 hours of one laptop\n")
    wrong = dataclasses.replace(listed, hours=lambda run: run.hours)
    with pytest.raises(UserError, match=r"suite tiny: hours\(\) of scratch/seed0/few: AttributeError: "):
        reproduce.reproduce(wrong, command("--workdir", str(tmp_path)), [])


@pytest.fixture
def small_runs(shallow, plain_pages, monkeypatch):
    """The runs of a suite have the small network and pages too."""
    monkeypatch.setattr(reproduce, "Engine", functools.partial(Engine, command=processes.command()))


def _stop_when_there_is(file: pathlib.Path) -> threading.Thread:
    def watch():
        while not file.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_seeds_that_were_not_asked_for_stay(tmp_path, capsys):
    """--seeds 1 judges by one seed, and loses none of the scores that are kept; --docs does not lose any either."""
    of = suite(2)
    file = tmp_path / "all.json"
    score_files.write(file, runs.of_suite(of), SCORES)
    words = ["--workdir", str(tmp_path / "w"), "--results", "--seeds", "1", "--docs", str(tmp_path)]
    reproduce.reproduce(of, command(*words, "--scores", str(file)), [])
    assert (tmp_path / "results" / "reproduce-tiny-scores.json").read_text() == file.read_text()
    assert "All 5 fine-tunings are there. The scores of 5 were taken" in capsys.readouterr().out
    (tmp_path / "x" / "tiny").mkdir(parents=True)
    with pytest.raises(UserError, match=r"reproduce-tiny-scores.json: 9 of its scores would be lost, first scratch/s"):
        reproduce.reproduce(of, command(*words[2:], "--workdir", str(tmp_path / "x")), [])
    assert (tmp_path / "results" / "reproduce-tiny-scores.json").read_text() == file.read_text()


def test_scores_from_a_pretraining_that_was_replaced_are_refused(tmp_path, monkeypatch):
    """Its folder was removed, since its settings are others now; the fine-tuning's own config is the same."""
    folder = tmp_path / "tiny"
    before = {run.name: run for run in runs.of_suite(smallest())}
    for run in before.values():
        (folder / run.name / "checkpoints" / "3").mkdir(parents=True)
        (folder / run.name / "config.json").write_text(json.dumps(configs.to_dict(run.resolved())))
        (folder / run.name / "evaluation.json").write_text('{"datasets": {"valley": {"mIoU": 3.0}}}')
        (folder / run.name / "metrics.jsonl").write_text('{"step": 3}')
    monkeypatch.setattr(reproduce.Engine, "_spawn", None)
    reproduce.reproduce(smallest(), command("--workdir", str(tmp_path)), [])
    scratch, mdp = smallest().pretrainings
    other = dataclasses.replace(mdp, overrides=(*mdp.overrides, ("optim.lr", "0.7")))
    edited = dataclasses.replace(smallest(), pretrainings=(scratch, other))
    with pytest.raises(UserError, match=r"mdp/seed0/pretrain: started with config.optim.lr="):
        reproduce.reproduce(edited, command("--workdir", str(tmp_path), "--results"), [])
    shutil.rmtree(folder / "mdp/seed0/pretrain")
    with pytest.raises(UserError, match=r"1 run began with a pretraining of other .*: remove mdp/seed0/few there, "):
        reproduce.reproduce(edited, command("--workdir", str(tmp_path), "--results"), [])
    shutil.rmtree(folder / "mdp/seed0/few")
    reproduce.reproduce(edited, command("--workdir", str(tmp_path), "--results"), [])


def test_pretrainings_that_nothing_needs_are_not_repeated(tmp_path, monkeypatch):
    """All fine-tunings are there, the pretraining before them was removed to make room."""
    chosen = runs.of_suite(smallest())
    for run in chosen:
        if run.cell:
            (tmp_path / "tiny" / run.name).mkdir(parents=True)
            scores = {"datasets": {"valley": {"mIoU": 3.0}}}
            (tmp_path / "tiny" / run.name / "evaluation.json").write_text(json.dumps(scores))
            metrics = tmp_path / "tiny" / run.name / "metrics.jsonl"
            metrics.write_text(json.dumps({"step": run.resolved().steps}))
    monkeypatch.setattr(reproduce.Engine, "_spawn", None)
    reproduce.reproduce(smallest(), command("--workdir", str(tmp_path)), [])
    assert len(json.loads((tmp_path / "tiny" / "scores.json").read_text())) == 2


def _taken_from_another_workdir(folder: pathlib.Path, tmp_path: pathlib.Path, row: dict) -> None:
    """With the scores of a finished study there is nothing to run elsewhere, and the same comes out."""
    scores, other = folder / "scores.json", tmp_path / "elsewhere"
    assert scores.read_text() == (tmp_path / "results" / "reproduce-tiny-scores.json").read_text()
    words = ["--workdir", str(other), "--scores", str(scores), "--json", str(tmp_path / "rows.json")]
    reproduce.reproduce(smallest(), command(*words), [])
    assert json.loads((tmp_path / "rows.json").read_text()) == [row]
    assert not list((other / "tiny" / "logs").iterdir())
    assert (other / "tiny" / "scores.json").read_text() == scores.read_text()
    assert "The scores of 2 were taken from runs in other workdirs." in (other / "tiny" / "report.html").read_text()


def test_stopped_and_started_again(small_runs, tmp_path, capsys):
    words = ["--workdir", str(tmp_path / "w"), "--json", str(tmp_path / "rows.json"), "--docs", str(tmp_path)]
    folder = tmp_path / "w" / "tiny"
    kept = folder / "scores.json"
    first = folder / "scratch" / "seed0" / "few" / "evaluation.json"
    watching = _stop_when_there_is(first)
    with pytest.raises(PreemptedError, match=r"told to stop; .*tiny goes on with the same command"):
        reproduce.reproduce(smallest(), command(*words), [])
    watching.join()
    log = folder / "logs" / "scratch-seed0-few.log"
    before = first.stat().st_mtime_ns, log.read_text()
    assert [(row["pretraining"], row["seed"]) for row in json.loads(kept.read_text())] == [("scratch", 0)]
    assert [path for path in folder.rglob("evaluation.json")] == [first]

    reproduce.reproduce(smallest(), command(*words, "--results"), [])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["missing"] == ["mdp/few seed 0"] and row["seeds"] == 0

    reproduce.reproduce(smallest(), command(*words), [])
    assert (first.stat().st_mtime_ns, log.read_text()) == before
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    scores = [
        json.loads((folder / name / "seed0" / "few" / "evaluation.json").read_text())["datasets"]["valley"]["mIoU"]
        for name in ("mdp", "scratch")
    ]
    assert row["difference"] == pytest.approx(scores[0] - scores[1])
    assert (row["claim"], row["seeds"], row["low"], row["verdict"]) == ("over_scratch", 1, None, "undecided")
    assert not row["missing"]
    assert "All 2 fine-tunings are there." in (tmp_path / "results" / "reproduce-tiny.md").read_text()
    assert "over_scratch" in capsys.readouterr().out
    assert (folder / "mdp" / "seed0" / "pretrain" / "checkpoints" / "3").is_dir()
    assert not (first.parent / "checkpoints").exists() and (folder / "report.html").exists()
    _taken_from_another_workdir(folder, tmp_path, row)


def test_a_failing_run_ends_in_status_2_after_the_others(tmp_path, capsys):
    """The pretraining cannot be resumed, as its workdir holds other things; training from scratch goes on."""
    (tmp_path / "tiny" / "mdp" / "seed0" / "pretrain").mkdir(parents=True)
    (tmp_path / "tiny" / "mdp" / "seed0" / "pretrain" / "mine.txt").write_text("")
    (tmp_path / "tiny" / "scratch" / "seed0" / "few").mkdir(parents=True)
    scores = {"datasets": {"valley": {"mIoU": 3.0}}}
    (tmp_path / "tiny" / "scratch" / "seed0" / "few" / "evaluation.json").write_text(json.dumps(scores))
    (finished,) = [run for run in runs.of_suite(smallest()) if run.name == "scratch/seed0/few"]
    metrics = tmp_path / "tiny" / finished.name / "metrics.jsonl"
    metrics.write_text(json.dumps({"step": finished.resolved().steps}))
    with pytest.raises(UserError) as error:
        reproduce.reproduce(smallest(), command("--workdir", str(tmp_path)), [])
    message = str(error.value)
    assert message.startswith("2 of 3 runs failed or could not start, first mdp/seed0/pretrain: exit status 2, mdp: ")
    assert "not empty and without config.json" in message and "\n" not in message
    assert "Not complete: 1 of 2 fine-tunings are missing." in capsys.readouterr().out


def closed_form() -> Suite:
    """MDP and random features, by heads in closed form from two photos and from all."""
    whole = suite()
    few = whole.targets[0]
    heads = dataclasses.replace(few, rates={}, photos=(2, 0), draws=2, layers=("backbone", "backbone+decoder"))
    rows = tuple(dataclasses.replace(row, targets=("few",)) for row in whole.pretrainings[:2])
    cells = tuple(("mdp", name) for name in heads.scores[1:])
    mean = Contrast("mean", "MDP is better", cells, tuple(("scratch", name) for _, name in cells), mean=True)
    own = dataclasses.replace(whole.claims[0], key="own")
    return Suite("tiny", whole.what, rows, (heads,), (mean, own), hours=lambda run: 0.5, device="core")


def test_heads_in_closed_form(small_runs, tmp_path, capsys):
    words = ["--workdir", str(tmp_path / "w"), "--json", str(tmp_path / "rows.json")]
    reproduce.reproduce(closed_form(), command("--list", *words[:2]), [])
    assert "3 runs, 0 finished" in (said := capsys.readouterr().err) and "of which 1.5 are left" in " ".join(
        said.split()
    )
    reproduce.reproduce(closed_form(), command(*words, "--jobs", "2"), [])
    mean, own = json.loads((tmp_path / "rows.json").read_text())
    # The score of a target is the mean of its layers and numbers of photos.
    assert mean["left"]["0"] == pytest.approx(own["left"]["0"]) and not mean["missing"]
    folder = tmp_path / "w" / "tiny"
    kept = json.loads((folder / "scores.json").read_text())
    assert [row["target"] for row in kept if row["pretraining"] == "mdp"] == list(closed_form().targets[0].scores)
    assert "All 2 scored runs are there." in (folder / "report.html").read_text()
    # What is known elsewhere is not repeated; a file that is lost is written again.
    other = ["--workdir", str(tmp_path / "o"), "--scores", str(folder / "scores.json")]
    reproduce.reproduce(closed_form(), command(*other), [])
    assert not list((tmp_path / "o" / "tiny" / "logs").iterdir())
