"""Stand-ins for the commands that reach outside, and the real parser of mdp."""

import importlib

import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from tests.launch.scripts import StandIns


@pytest.fixture
def stand_ins(tmp_path):
    return StandIns(tmp_path)


@pytest.fixture
def accepted(monkeypatch):
    """A function that passes if the real `mdp` understands these arguments, its config and its values included."""

    def check(arguments):
        if arguments[0] == "bench" and "bench" not in cli.PARTS:
            return  # gpu_smoke.sh looks for it in `mdp --help` before it runs it
        module = importlib.import_module(f"mdp_jax.commands.{arguments[0]}")
        parsed = []
        monkeypatch.setattr(module, "run", lambda *parts: parsed.append(parts))
        assert cli.run(arguments) == 0
        ((args, overrides),) = parsed
        if getattr(args, "config", None):
            configs.apply_overrides(configs.load(args.config), overrides)

    return check
