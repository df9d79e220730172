"""Folders that one command at a time works in."""

import errno
import subprocess
import sys

import pytest

from mdp_jax.errors import UserError
from mdp_jax.storage.locks import locked


def hold(folder):
    return locked(folder, "lock", "--workdir", "another run")


def test_one_at_a_time(tmp_path):
    with (
        hold(tmp_path / "s"),
        pytest.raises(UserError, match=r"--workdir .*s: in use by another run"),
        hold(tmp_path / "s"),
    ):
        raise AssertionError("two of them had the lock")
    with hold(tmp_path / "s"):
        pass


def test_a_run_left_behind_keeps_the_lock(tmp_path):
    with hold(tmp_path) as lock:
        left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    try:
        with pytest.raises(UserError, match="in use by another"), hold(tmp_path):
            pass
    finally:
        left.communicate(b"\n")
    with hold(tmp_path):
        pass


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with hold(tmp_path / "s") as first, hold(tmp_path / "s") as second:
        assert first != second and (tmp_path / "s" / "lock").exists()


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="expected a folder that can be written"),
        hold(tmp_path / "file" / "s"),
    ):
        pass
