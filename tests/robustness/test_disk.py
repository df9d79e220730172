"""Full disks: one line, exit status 2, what was there stays (the long form: tests/robustness/disk.py)."""

import contextlib
import json
import logging
import os
import pathlib
import sys
import threading
import types

import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax.errors import UserError
from mdp_jax.storage import background, json_files, metrics_file
from mdp_jax.storage.checkpoints import Checkpoints
from tests.data.fixtures import write_jpeg
from tests.evaluation import finetuned
from tests.robustness import disk

EMPTY = '{"datasets": {}}'  # scores of a run that scored nothing


@contextlib.contextmanager
def small_disk(folder, kib):
    try:
        with disk.small_disk(folder, kib) as made:
            yield made
    except PermissionError:
        pytest.skip("mounting is not allowed here")


def fill(folder: pathlib.Path) -> None:
    """Writes until nothing more fits."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(("loop", "kib"), [("pretrain", 24), ("finetune", 1200)])
def test_a_run_on_a_disk_that_is_too_small(tmp_path, loop, kib):
    try:
        ended = disk.run(loop, tmp_path / "disk", kib)
    except PermissionError:
        pytest.skip("mounting is not allowed here")
    assert not disk.problem(ended)
    assert ended.status == 2


def test_a_file_that_cannot_be_written_is_what_it_was(tmp_path):
    with small_disk(tmp_path / "disk", 64) as folder:
        file = folder / "x.json"
        json_files.write_json(file, {"a": 1})
        fill(folder)
        for write in (
            lambda: json_files.write_json(file, ["x" * 10**5]),
            lambda: json_files.write_bytes(folder / "new.png", bytes(10**5)),
        ):
            with pytest.raises(UserError, match="No space left on device"):
                write()
        assert json.loads(file.read_text()) == {"a": 1}
        assert sorted(path.name for path in folder.iterdir()) == ["filler", "x.json"]


def test_a_row_that_does_not_fit_leaves_whole_rows(tmp_path):
    with small_disk(tmp_path / "disk", 64) as folder:
        (folder / "metrics.jsonl").touch()
        with pytest.raises(UserError, match=r"metrics\.jsonl: No space left on device"):
            for step in range(10**5):
                metrics_file.append(folder / "metrics.jsonl", {"step": step, "loss": 0.5})
        rows = metrics_file.read_metrics(folder)
        assert [row["step"] for row in rows] == list(range(len(rows))) and len(rows) > 100
        assert (folder / "metrics.jsonl").read_bytes().endswith(b"}\n")


def test_checkpoints_say_it_once(tmp_path, capfd, caplog):
    with small_disk(tmp_path / "disk", 300) as folder, caplog.at_level(logging.DEBUG):
        saved = Checkpoints(folder, keep=3)
        saved.save(1, {"step": np.int32(1), "x": np.zeros(100, np.float32)}, {})
        with pytest.raises(UserError, match=r"could not be written \(No space left on device\); earlier ones stay"):
            saved.save(2, {"step": np.int32(2), "x": np.random.default_rng(0).normal(size=10**6)}, {})
            saved.close()
        with contextlib.suppress(UserError):
            saved.close()
    assert capfd.readouterr().err == ""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("part", ["evaluate", "predict"])
def test_results_on_a_full_disk(part, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("mdp_jax.models.network.segmenter", lambda *_: finetuned.StridedNetwork())
    finetuned.write_dataset(tmp_path / "noise")
    with small_disk(tmp_path / "disk", 1024) as folder:
        finetuned.write_workdir(folder / "run", tmp_path)
        (folder / "run" / "evaluation.json").write_text(EMPTY)
        fill(folder)
        before = sorted(path for path in folder.rglob("*") if "checkpoints" not in path.parts)
        write_jpeg(tmp_path / "p.jpg", np.zeros((32, 40, 3)))
        words = {"evaluate": [], "predict": ["--out", str(folder), str(tmp_path / "p.jpg")]}
        with pytest.raises(SystemExit) as stop:
            cli.main([part, "--checkpoint", str(folder / "run"), *words[part]])
        assert stop.value.code == 2
        said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mdp:")]
        assert len(said) == 1 and "No space left on device" in said[0]
        assert sorted(path for path in folder.rglob("*") if "checkpoints" not in path.parts) == before
        assert (folder / "run" / "evaluation.json").read_text() == EMPTY


def test_what_is_no_failure_of_the_library_is_still_said(monkeypatch):
    said = []
    background.quiet.cache_clear()
    monkeypatch.setattr(threading, "excepthook", lambda failed: said.append(str(failed.exc_value)))
    monkeypatch.setattr(sys, "unraisablehook", lambda failed: said.append(str(failed.exc_value)))
    background.quiet()
    for error, of in (
        (RuntimeError("Event loop is closed"), None),
        (RuntimeError("mine"), None),
        (ValueError("b"), "x"),
    ):
        sys.unraisablehook(types.SimpleNamespace(exc_value=error, object=of))
    for error in (
        ValueError("of mine"),
        ValueError("RESOURCE_EXHAUSTED: Error writing local file"),
        OSError(28, "full"),
    ):
        thread = threading.Thread(target=_raise, args=(error,))
        thread.start()
        thread.join()
    background.quiet.cache_clear()
    assert said == ["mine", "b", "of mine", "[Errno 28] full"]


def _raise(error):
    raise error


def test_a_disk_without_rights(tmp_path):
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "x"  # root may write everywhere else
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "x"
    with pytest.raises(UserError, match="expected a file that can be written"):
        json_files.write_text(place, "x")
