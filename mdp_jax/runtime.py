"""What must be set before JAX starts its backend: a CPU flag, and the place of the compilation cache."""

import importlib.metadata
import importlib.util
import os
import pathlib

# Doubles the speed of convolutions on CPU. An unknown flag aborts the process, so it is set for the jaxlib series it
# was seen to work on and nowhere else.
_CPU_CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CPU_CONVOLUTION_VALUE = "-individual_convolution"
_SEEN_ON_JAXLIB = "0.10."


def _accelerator_possible() -> bool:
    """Whether JAX may start something else than the CPU: another backend may parse XLA_FLAGS with its own list."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms != "cpu"
    return any(importlib.util.find_spec(name) for name in ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin"))


def set_cpu_flag() -> None:
    """Adds the CPU convolution flag to XLA_FLAGS, never over a value of the user's own."""
    flags = os.environ.get("XLA_FLAGS", "")
    if (
        _CPU_CONVOLUTION_FLAG not in flags
        and importlib.metadata.version("jaxlib").startswith(_SEEN_ON_JAXLIB)
        and not _accelerator_possible()
    ):
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_CONVOLUTION_FLAG}={_CPU_CONVOLUTION_VALUE}".strip()


def set_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "mdp_jax" / "xla"))


def set_precision(model_config) -> None:
    """Turns on 64-bit types in JAX where a config computes in float64; they are off by default."""
    if "float64" in (model_config.compute_dtype, model_config.param_dtype):
        import jax

        jax.config.update("jax_enable_x64", True)
