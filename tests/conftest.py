"""Every test runs with 8 virtual devices, rank promotion an error and no accelerator."""

import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation is most of the time of the tests, and their programs are tiny.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
# Of this session alone and of all its workers: runs that are started again find their compiled programs, and nothing
# is found from before.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="mdp_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real photos beside the repository; MDP_SHARED_DATA names another place."""
    default = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("MDP_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real photos: {folder.name} folder missing (set MDP_SHARED_DATA)")
    return folder
