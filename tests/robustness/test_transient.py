"""A disk or network disk that fails for a moment: exit status 75, with which launchers start the command again."""

import errno
import os
import pathlib

import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax.data import images
from mdp_jax.data.batches.bad_images import ON_BAD_IMAGE
from mdp_jax.errors import TransientError, UserError, is_transient, of_system
from mdp_jax.storage import checkpoints, files, json_files, locks, metrics_file, paths
from tests.data.fixtures import numbered_source

AWAY = [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH]
THERE = [errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG]


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", AWAY + THERE)
def test_which_errors_are_of_a_moment(number):
    error = OSError(number, os.strerror(number))
    assert is_transient(error) == (number in AWAY)
    assert is_transient(RuntimeError(f"INTERNAL: writing x.zarr: {os.strerror(number)} [source ...]")) == (
        number in AWAY
    )
    assert type(of_system(error, "x")) is (TransientError if number in AWAY else UserError)


def status_of(call, monkeypatch, capsys):
    monkeypatch.setattr(cli, "run", lambda _: call())
    with pytest.raises(SystemExit) as stop:
        cli.main(["finetune"])
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("mdp: ")
    return stop.value.code, err


def test_a_photo_that_the_disk_does_not_give_out(monkeypatch, capsys, tmp_path):
    """Linux answers with EIO where this file is read from its beginning."""
    memory = pathlib.Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("no /proc")
    (tmp_path / "a.jpg").symlink_to(memory)
    code, err = status_of(lambda: images.read_photo(tmp_path / "a.jpg"), monkeypatch, capsys)
    assert code == 75
    assert "a.jpg cannot be read (Input/output error)" in err and "the same command goes on" in err
    (tmp_path / "a.jpg").unlink()
    assert status_of(lambda: images.read_photo(tmp_path / "a.jpg"), monkeypatch, capsys)[0] == 2


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES])
def test_every_file_of_a_run(number, monkeypatch, capsys, tmp_path):
    expected = 75 if number in AWAY else 2
    (tmp_path / "metrics.jsonl").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", failing(number))
        patch.setattr(pathlib.Path, "mkdir", failing(number))
        patch.setattr(pathlib.Path, "read_bytes", failing(number))
        calls = [
            lambda: json_files.write_json(tmp_path / "x.json", {}),
            lambda: metrics_file.append(tmp_path / "metrics.jsonl", {"step": 1}),
            lambda: paths.make_folder(tmp_path / "run", "--workdir"),
            lambda: locks.locked(tmp_path / "run", "run.lock", "--workdir", "another").__enter__(),
            lambda: files.read_bytes(tmp_path / "metrics.jsonl", "metrics"),
            failing(number),
        ]
        for call in calls[: len(calls) - (number not in AWAY)]:
            assert status_of(call, monkeypatch, capsys)[0] == expected


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_was_written_is_on_the_disk_before_it_has_its_name(number, monkeypatch, tmp_path):
    json_files.write_json(tmp_path / "x.json", [1])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(UserError):
        json_files.write_json(tmp_path / "x.json", [2])
    with pytest.raises(UserError):
        metrics_file.append(tmp_path / "metrics.jsonl", {"step": 2})
    assert json_files.read_json(tmp_path / "x.json", "a list") == [1]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "x.json"]


def test_a_file_system_that_does_not_tell_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    json_files.write_json(tmp_path / "x.json", [2])
    assert json_files.read_json(tmp_path / "x.json", "a list") == [2]


def test_a_photo_is_not_skipped_for_it():
    class Away:
        name = "set"

        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise of_system(OSError(errno.ESTALE, "Stale file handle"), f"photo {index}")

    source = ON_BAD_IMAGE["skip"](Away(), 0.5)
    with pytest.raises(TransientError, match="photo 1"):
        source[1]
    assert source.bad == {}
    assert ON_BAD_IMAGE["skip"](numbered_source("set", 2, 4), 0.5)[1]["image"].any()


def test_a_checkpoint_is_not_passed_over_for_it(monkeypatch, tmp_path):
    """It would be deleted at the next save, with all its steps."""
    saved = checkpoints.Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        saved.save(step, {"step": np.int32(step)}, {})
    saved.close()
    read, said = checkpoints.read_step, []

    def away(manager, step, where):
        if step == 2:
            raise RuntimeError("Error reading ocdbt: Stale file handle")
        return read(manager, step, where)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read_step", away)
        with pytest.raises(TransientError, match=r"checkpoints/2: cannot be read \(Stale file handle\)"):
            checkpoints.load(tmp_path, said.append)
    assert not said
    assert int(checkpoints.load(tmp_path).state["step"]) == 2
