"""What is set before JAX starts: by which devices there are, not by which packages."""

import pytest

from mdp_jax import runtime

FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"


def machine(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("0x1ae0\n")
    return root


@pytest.mark.parametrize(
    ("platforms", "packages", "files", "fast"),
    [
        ("", (), (), True),
        ("", ("libtpu",), (), True),  # make venv EXTRA=tpu on a machine without one, for mdp plan
        ("", ("libtpu",), ("dev/accel0",), False),
        ("", ("libtpu",), ("dev/vfio/0", "sys/bus/pci/devices/a/vendor"), False),
        ("", (), ("dev/accel0",), True),
        ("", ("jax_cuda12_plugin",), (), True),
        ("", ("jax_cuda12_plugin",), ("dev/nvidia0",), False),
        ("", ("jax_cuda13_plugin",), ("dev/dxg",), False),
        ("", (), ("dev/nvidia0",), True),
        ("cpu", ("libtpu", "jax_cuda12_plugin"), ("dev/nvidia0", "dev/accel0"), True),
        ("cuda,cpu", (), (), False),
    ],
)
def test_the_fast_flag(tmp_path, monkeypatch, platforms, packages, files, fast):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: True if name in packages else None)
    runtime.set_cpu_flag(machine(tmp_path, *files))
    assert runtime.os.environ["XLA_FLAGS"] == (f"--a=1 {FLAG}" if fast else "--a=1")
    runtime.set_cpu_flag(machine(tmp_path, *files))
    assert runtime.os.environ["XLA_FLAGS"].count(FLAG) == fast


def test_the_cache_is_the_users_own_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
    runtime.set_compilation_cache()
    assert runtime.os.environ["JAX_COMPILATION_CACHE_DIR"] == "mine"
