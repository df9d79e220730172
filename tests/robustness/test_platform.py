"""What a run computes on: said, and required where that is asked for."""

import os
import subprocess
import sys

import pytest

BROKEN = """
def initialize():
    raise RuntimeError("driver too old\\nand more\\nlines")
"""


def mdp(words, cwd, root, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_PLAT", "XLA_"))}
    environment |= {"PYTHONPATH": f"{root}{os.pathsep}{cwd}"} | variables
    done = subprocess.run(
        [sys.executable, "-m", "mdp_jax", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stderr


TRAIN = ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "w"]


@pytest.mark.parametrize(
    ("words", "platforms", "message"),
    [
        (
            [*TRAIN, "--platform", "gpu"],
            "cuda,cpu",
            "--platform gpu: the devices here are of the platform cpu (JAX_PLAT",
        ),
        (["evaluate", "--checkpoint", "w", "--platform", "gpu"], "cuda,cpu", "--platform gpu: the devices here are of"),
        (TRAIN, "cuda", "no device can be used (JAX_PLATFORMS=cuda; AssertionError); expected devices of the platform"),
    ],
)
def test_a_device_that_is_not_there(words, platforms, message, tmp_path, pytestconfig):
    status, err = mdp(words, tmp_path, pytestconfig.rootpath, JAX_PLATFORMS=platforms)
    assert (status, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (tmp_path / "w").exists()


def test_a_plugin_that_fails_is_that_line(tmp_path, pytestconfig):
    (tmp_path / "jax_plugins" / "broken").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "broken" / "__init__.py").write_text(BROKEN)
    status, err = mdp([*TRAIN, "--platform", "gpu"], tmp_path, pytestconfig.rootpath)
    assert (status, err.count("\n")) == (2, 1), err
    assert "driver too old" in err


def test_every_loop_and_command_says_it(capsys, monkeypatch, tmp_path):
    from mdp_jax import runtime

    monkeypatch.setattr(runtime, "_REASON", {"asked": ""})
    monkeypatch.delenv("JAX_PLATFORMS")
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text(f"{3 * 2**29}\n")
    said = "running on cpu (cpu): 2 of 8 devices, 1 process, 1.5 GiB of memory; "
    assert runtime.described(2, tmp_path) == said + "no GPU or TPU was found"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    needs = "a GPU is here, but not what JAX needs for it: pip install 'mdp_jax[cuda12]' or 'mdp_jax[cuda13]'"
    monkeypatch.setattr(runtime, "_CUDA", ("no_such_plugin",))
    assert runtime.described(2, tmp_path) == said + needs
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert runtime.described(2, tmp_path) == said + "as JAX_PLATFORMS=cpu says"
    runtime.start_devices("cpu")
    limit.write_text("max\n")
    assert runtime.described().startswith("running on cpu (cpu): 8 devices, 1 process, ")
    assert runtime.described(2, tmp_path).endswith("GiB of memory; as --platform cpu says")
    with pytest.raises(Exception, match="--platform tpu: the devices here are of the platform cpu"):
        runtime.start_devices("tpu")
    assert capsys.readouterr().err == ""
