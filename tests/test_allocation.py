"""A command that computes starts again with settings of the allocator, once, and never over the user's own."""

import os
import subprocess
import sys

import pytest

from mdp_jax import runtime

PROBE = """
import os, sys
from mdp_jax import cli
sys.argv[0] = "mdp"
cli.run = lambda words: print(os.getpid(), words, os.environ.get("GLIBC_TUNABLES")) or 0
cli.main()
"""


def started(*words, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "LD_PRELOAD")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE, *words], env=environment | variables, stdout=subprocess.PIPE, text=True
    )
    said, _ = process.communicate(timeout=60)
    return said.strip().removeprefix(f"{process.pid} "), process.returncode


@pytest.mark.skipif(runtime.machine.libc_ver()[0] != "glibc", reason="the settings are of glibc")
def test_the_same_process_and_words_with_the_settings():
    words = ["pretrain", "--config.data.crop=(8, 8)", "é *"]
    assert started(*words) == (f"{words} {runtime.malloc_settings()}", 0)


@pytest.mark.parametrize(
    ("words", "variables", "value"),
    [
        (["pretrain"], {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"}, "glibc.malloc.perturb=1"),
        (["pretrain"], {"GLIBC_TUNABLES": ""}, ""),
        (["pretrain"], {"MDP_MALLOC": "system"}, "None"),
        (["pretrain", "--help"], {}, "None"),
        (["data", "check"], {}, "None"),
        ([], {}, "None"),
    ],
)
def test_the_users_choice_and_small_parts_stay(words, variables, value):
    assert started(*words, **variables) == (f"{words} {value}".rstrip(), 0)


def test_another_program_is_not_started_again(monkeypatch):
    for name in ("GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime.machine, "libc_ver", lambda: ("glibc", "2.36"))
    for command, ours in {"/a/bin/mdp": True, "/a/mdp_jax/__main__.py": True, "ipykernel_launcher.py": False}.items():
        monkeypatch.setattr(sys, "argv", [command])
        assert runtime.malloc_helps(["pretrain"]) == (ours and sys.platform == "linux")
    monkeypatch.setattr(runtime.machine, "libc_ver", lambda: ("", ""))
    assert not runtime.malloc_helps(["pretrain"])
