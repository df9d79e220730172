"""What must be set before JAX starts its backend: allocator, CPU flag, folder of the compilation cache."""

import contextlib
import gc
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import platform as machine
import sys
from collections.abc import Sequence

from mdp_jax.errors import UserError

PLATFORMS = ("cpu", "gpu", "tpu")

# Doubles the speed of convolutions on CPU. An unknown flag aborts the process, so it is set for the jaxlib series it
# was seen to work on and nowhere else.
_CPU_CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_CPU_CONVOLUTION_VALUE = "-individual_convolution"
_SEEN_ON_JAXLIB = "0.10."
_GOOGLE = "0x1ae0"  # vendor of a PCI device
_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")
_MEMORY_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_REASON = {"asked": ""}  # the flag that required the devices of this process

# glibc gives the memory of each step back to Linux, which hands out the same pages again, zeroed. Its settings are read
# when a process starts.
_TUNABLES = "GLIBC_TUNABLES"
_ALLOCATOR = "MDP_MALLOC"  # "system" leaves it as it is
_COMPUTING = ("pretrain", "finetune", "adopt", "evaluate", "predict", "serve", "bench", "reproduce", "quickstart")
_MALLOC = {
    "hugetlb": 1,  # large pages where Linux gives them on request
    "mmap_threshold": 1 << 30,  # bytes; smaller arrays come from the heap, which is kept
    "trim_threshold": 4 << 30,  # bytes free at the heap's end, from which on it is given back
    "top_pad": 64 << 20,  # bytes by which the heap grows at least
}


# Python looks for unreachable cycles of objects after so many new ones. Imports and traces of JAX make hundreds of
# thousands that stay, so its own 700 cost a tenth of a start.
_COLLECTED_AFTER = (20_000, 20, 20)


def collect_less() -> None:
    """Lets Python look for unreachable objects less often; for a process that is this package's own."""
    gc.set_threshold(*_COLLECTED_AFTER)


def prepare() -> None:
    """Sets the flag and the cache where the user has not set them.

    The command calls it, and so does every function of the Python API that uses JAX: before JAX starts its backend.
    """
    set_cpu_flag()
    set_compilation_cache()


def has_tpu(root: pathlib.Path) -> bool:
    """Whether a machine has a TPU.

    Args:
      root: the root folder of the machine's files.
    """
    if any((root / "dev").glob("accel[0-9]*")):  # other makers' chips are in a folder /dev/accel
        return True
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    return (root / "dev/vfio/0").exists() and any(file.read_text().strip() == _GOOGLE for file in vendors)


def has_nvidia(root: pathlib.Path) -> bool:
    """Whether a machine has a GPU that CUDA can use.

    Args:
      root: the root folder of the machine's files.
    """
    return any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()  # dxg: Linux under Windows


def _accelerator_possible(root: pathlib.Path) -> bool:
    """Whether JAX may start something else than the CPU: another backend may parse XLA_FLAGS with its own list."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms != "cpu"
    cuda = any(importlib.util.find_spec(name) for name in _CUDA)
    return bool((cuda and has_nvidia(root)) or (importlib.util.find_spec("libtpu") and has_tpu(root)))


def set_cpu_flag(root: pathlib.Path = pathlib.Path("/")) -> None:
    """Adds the CPU convolution flag to XLA_FLAGS where JAX will use the CPU and the user has not set the flag.

    Args:
      root: the root folder of the machine's files.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if (
        _CPU_CONVOLUTION_FLAG not in flags
        and importlib.metadata.version("jaxlib").startswith(_SEEN_ON_JAXLIB)
        and not _accelerator_possible(root)
    ):
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_CONVOLUTION_FLAG}={_CPU_CONVOLUTION_VALUE}".strip()


def set_compilation_cache() -> None:
    """Sets the folder of JAX's compilation cache: the user's cache folder, where there is one and none is set."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    except RuntimeError:  # no home directory
        return
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(cache) / "mdp_jax" / "xla"))
    if "jax" in sys.modules:  # which read the variable when it was imported
        import jax

        if jax.config.values["jax_compilation_cache_dir"] is None:
            jax.config.update("jax_compilation_cache_dir", folder)


def span(name: str) -> contextlib.AbstractContextManager:
    """A part of the work that a profile shows by its name, in whatever thread; nothing where JAX is not in use.

    Args:
      name: of the part.
    """
    jax = sys.modules.get("jax")
    return jax.profiler.TraceAnnotation(name) if jax else contextlib.nullcontext()


def malloc_settings() -> str:
    """The value of GLIBC_TUNABLES that a run starts with."""
    return ":".join(f"glibc.malloc.{name}={value}" for name, value in _MALLOC.items())


def malloc_helps(words: Sequence[str]) -> bool:
    """Whether this process should start again with `malloc_settings`.

    It should not where the user has chosen (GLIBC_TUNABLES, another allocator in LD_PRELOAD, MDP_MALLOC=system), where
    there is no glibc, for parts that compute little, and where the process is not the command `mdp`.

    Args:
      words: of the command line, without `mdp`.
    """
    chosen = _TUNABLES in os.environ or "LD_PRELOAD" in os.environ or os.environ.get(_ALLOCATOR) == "system"
    command = pathlib.PurePath(sys.argv[0])
    ours = command.stem == "mdp" or (command.name in ("__main__.py", "cli.py") and command.parent.name == "mdp_jax")
    computes = bool(words) and words[0] in _COMPUTING and not {"-h", "--help"} & set(words)
    return computes and ours and not chosen and sys.platform == "linux" and machine.libc_ver()[0] == "glibc"


def restart_with_malloc() -> None:
    """Starts this process again with `malloc_settings`: same process id, same words; does nothing where that fails."""
    os.environ[_TUNABLES] = malloc_settings()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # the interpreter was removed or may not be run: the run is slower, nothing else
        del os.environ[_TUNABLES]


def set_precision(*dtypes: str) -> None:
    """Turns on 64-bit types in JAX, which are off by default, where a run needs them.

    Args:
      *dtypes: names of the dtypes of the run: its compute_dtype and param_dtype.
    """
    if "float64" in dtypes:
        import jax

        jax.config.update("jax_enable_x64", True)


class _Remarks(logging.Handler):
    """Keeps the first line of what JAX says while it starts its devices, which goes over many."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.lines.append(": ".join(_first_line(part) for part in (record.getMessage(), error) if part))


def _first_line(said: object) -> str:
    return next(iter(str(said).strip().splitlines()), type(said).__name__)[:300]


def start_devices(platform: str | None = None) -> None:
    """Starts the devices that JAX finds; to be called after the processes of a run have joined.

    Args:
      platform: one of PLATFORMS, which is required; None for any.

    Raises:
      UserError: there are no devices of that platform, or none at all.
    """
    import jax

    asked = os.environ.get("JAX_PLATFORMS", "")
    if platform == "cpu":  # which is there beside others
        os.environ["JAX_PLATFORMS"] = "cpu"
        jax.config.update("jax_platforms", "cpu")
        set_cpu_flag()
    remarks, logger = _Remarks(), logging.getLogger("jax._src.xla_bridge")
    propagates = logger.propagate
    logger.addHandler(remarks)
    logger.propagate = False
    found, expected = "none", f"expected devices of the platform {platform or asked or 'cpu'}"
    try:
        found = jax.default_backend()
    except Exception as error:  # a plugin may raise anything, and JAX raises assertions
        remarks.lines.append(_first_line(error))
    finally:
        logger.removeHandler(remarks)
        logger.propagate = propagates
    if found not in (PLATFORMS if platform is None else (platform,)):
        option = f"--platform {platform}: " if platform else ""
        there = f"the devices here are of the platform {found}" if found != "none" else "no device can be used"
        known = [f"JAX_PLATFORMS={asked}"] if asked else []
        why = "; ".join([*known, *remarks.lines[:1], *_not_installed(pathlib.Path("/"))])
        raise UserError(f"{option}{there}{f' ({why})' if why else ''}; {expected}")
    if platform is not None:
        _REASON["asked"] = f"--platform {platform}"
    for line in remarks.lines:
        print(f"mdp: warning: {line}", file=sys.stderr)


def _machine_memory(root: pathlib.Path) -> int:
    """Bytes of the machine's memory, or of what its container may use."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found = min(found, int((root / limit).read_text()))
    return found


def _not_installed(root: pathlib.Path) -> list[str]:
    """What the accelerators of this machine lack."""
    found = []
    if has_tpu(root) and not importlib.util.find_spec("libtpu"):
        found.append("a TPU is here, but not what JAX needs for it: pip install 'mdp_jax[tpu]'")
    if has_nvidia(root) and not any(importlib.util.find_spec(name) for name in _CUDA):
        found.append("a GPU is here, but not what JAX needs for it: pip install 'mdp_jax[cuda12]' or 'mdp_jax[cuda13]'")
    return found


def _why(backend: str, root: pathlib.Path) -> str:
    """Why these devices and no others."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    asked = _REASON["asked"] or (f"JAX_PLATFORMS={platforms}" if platforms else "")
    if asked:
        return f"as {asked} says"
    if backend != "cpu":
        return "JAX takes an accelerator where it finds one"
    return next(iter(_not_installed(root)), "no GPU or TPU was found")


def described(devices: int | None = None, root: pathlib.Path = pathlib.Path("/")) -> str:
    """One line that says what this run computes on, and why; the devices have been started.

    Args:
      devices: so many are used; None for all.
      root: the root folder of the machine's files.
    """
    import jax

    there, processes, backend = jax.device_count(), jax.process_count(), jax.default_backend()
    used = f"{devices} of {there} devices" if devices not in (None, there) else f"{there} device{'s' * (there > 1)}"
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        memory = f"{stats['bytes_limit'] / 2**30:.1f} GiB of memory for JAX on each"
    else:
        memory = f"{_machine_memory(root) / 2**30:.1f} GiB of memory"
    kind = f"{backend} ({jax.devices()[0].device_kind})"
    count = f"{processes} process{'es' * (processes > 1)}"
    return f"running on {kind}: {used}, {count}, {memory}; {_why(backend, root)}"
