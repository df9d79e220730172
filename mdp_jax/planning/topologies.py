"""TPU slices and GPU nodes that programs are compiled for although they are not present: names, chips, memory."""

import importlib.util
import math
import os
from dataclasses import dataclass
from typing import Any

from mdp_jax.errors import UserError
from mdp_jax.planning.hardware import GPUS, TPUS, Peak

# libtpu asks a metadata server for what these say, and one process at a time may load it, unless told otherwise. What
# they say does not matter to a compiler; a user's own values stay.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Generation:
    """One generation of TPUs.

    Attributes:
      memory: bytes a program may use on a chip, as the compiler itself says; the rest is the system's.
      layouts: the slices, chips along each axis, as in "4x4".
      options: of jax.experimental.topologies.get_topology_desc.
    """

    memory: int
    layouts: tuple[str, ...]
    options: dict[str, Any]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16")

GENERATIONS = {
    # megacore makes one device of a chip's two cores, as on Cloud TPU; without it they share the memory as two.
    "v4": Generation(round(30.75 * 2**30), _CUBES, {"chip_config_name": "megacore"}),
    "v5e": Generation(round(15.75 * 2**30), _FLAT, {}),
    "v5p": Generation(round(95.74 * 2**30), _CUBES, {}),
    "v6e": Generation(round(31.25 * 2**30), _FLAT, {}),
}


_MOST_GPUS = 72  # of one node, in which all are joined by fast links


def _unknown(name: str) -> UserError:
    slices = "; ".join(f"{g}: {' '.join(e.layouts)}" for g, e in GENERATIONS.items())
    gpus = f"GPUs of a node, as in h100:8: {' '.join(GPUS)}"
    return UserError(f"--topology {name}: no such topology; expected e.g. v5e:4x4, known are {slices}; {gpus}")


def _split(name: str) -> tuple[Generation, str]:
    entry, layout = GENERATIONS.get(generation(name)), name.partition(":")[2]
    if entry is None or layout not in entry.layouts:
        raise _unknown(name)
    return entry, layout


def generation(name: str) -> str:
    """The generation of a topology, such as `v5e` of `v5e:4x4`; of a node its GPU, such as `h100` of `h100:8`."""
    return name.partition(":")[0]


def is_tpu(name: str) -> bool:
    """Whether a topology is of TPUs; a node of GPUs otherwise."""
    return generation(name) in GENERATIONS


def peak(name: str) -> Peak:
    """The published peaks of a chip of a topology.

    Args:
      name: of a topology, checked by `chips`.
    """
    return (TPUS if is_tpu(name) else GPUS)[generation(name)]


def chips(name: str) -> int:
    """The number of chips of a topology, or of GPUs of a node, each of them one device.

    Args:
      name: such as `v5e:4x4` or `h100:8`.

    Raises:
      UserError: there is no such topology. The message lists all.
    """
    if generation(name) in GPUS:
        number = name.partition(":")[2]
        if not number.isdecimal() or not 1 <= int(number) <= _MOST_GPUS:
            raise _unknown(name)
        return int(number)
    _, layout = _split(name)
    return math.prod(map(int, layout.split("x")))


def memory(name: str) -> int:
    """The number of bytes that a program may use on a chip.

    Args:
      name: of a topology.

    Raises:
      UserError: there is no such topology.
    """
    return _split(name)[0].memory if generation(name) not in GPUS else round(peak(name).memory)


def smallest(name: str, divisor: int) -> str:
    """Finds the smallest topology of the same generation with more than one chip.

    Args:
      name: of a topology.
      divisor: divides the number of chips.
    """
    entry, _ = _split(name)
    names = [f"{generation(name)}:{layout}" for layout in entry.layouts]
    return min((other for other in names if chips(other) > 1 and chips(other) % divisor == 0), key=chips, default=name)


def has_compiler() -> bool:
    """Whether the compiler of TPU programs, libtpu, is installed."""
    return importlib.util.find_spec("libtpu") is not None


def require_compiler() -> None:
    """Checks that the compiler of TPU programs, libtpu, is installed.

    Raises:
      UserError: it is not.
    """
    if not has_compiler():
        raise UserError(
            "plan: libtpu, the compiler of TPU programs, is not installed; pip install 'mdp_jax[tpu]' (in the "
            "repository: make venv EXTRA=tpu)"
        )


def devices(name: str, slices: int = 1) -> list:
    """The devices of slices of a topology, to compile for; nothing can run on them.

    Args:
      name: of the topology, of TPUs.
      slices: number of slices, each of this topology.

    Raises:
      UserError: there is no such topology, or libtpu is not installed.
    """
    entry, _ = _split(name)
    require_compiler()
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    options = dict(entry.options)
    if chips(name) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)  # a host has four chips otherwise
    if slices > 1:
        options["num_slices"] = slices
    return list(topologies.get_topology_desc(name, "tpu", **options).devices)
