"""Every test runs with 8 virtual devices, rank promotion an error and no accelerator."""

import os
import pathlib
import tempfile

from mdp_jax import runtime

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation is most of the time of the tests, and their programs are tiny.
# In one part each: more of them, compiled in threads, take more processor time, and the workers have the cores already.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
# Otherwise a worker would have the flag or not, as its first test calls a command or starts JAX itself.
runtime.set_cpu_flag()
# Of this session alone and of all its workers and processes: programs are compiled once, and nothing is found from
# before.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="mdp_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
runtime.collect_less()

import jax
import pytest

from tests import small

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


@pytest.fixture(scope="module")
def shallow():
    """Makes resnet18 the network of tests/small.py."""
    with small.network():
        yield


@pytest.fixture(scope="module")
def shared_programs():
    """Lets runs with equal programs share one, for as long as the module's tests run."""
    with small.shared_programs():
        yield


@pytest.fixture
def plain_pages():
    """Leaves the figures of runs out of their pages."""
    with small.pages():
        yield
