"""TPU slices that programs are compiled for although they are not present: names, chips, memory."""

import importlib.util
import math
import os
from dataclasses import dataclass
from typing import Any

from mdp_jax.errors import UserError

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


def _split(name: str) -> tuple[Generation, str]:
    entry, layout = GENERATIONS.get(generation(name)), name.partition(":")[2]
    if entry is None or layout not in entry.layouts:
        known = "; ".join(f"{g}: {' '.join(e.layouts)}" for g, e in GENERATIONS.items())
        raise UserError(f"--topology {name}: no such topology; expected e.g. v5e:4x4, known are {known}")
    return entry, layout


def generation(name: str) -> str:
    """The generation of a topology, such as `v5e` of `v5e:4x4`."""
    return name.partition(":")[0]


def chips(name: str) -> int:
    """The number of chips of a topology, each of them one device.

    Args:
      name: such as `v5e:4x4`.

    Raises:
      UserError: there is no such topology. The message lists all.
    """
    _, layout = _split(name)
    return math.prod(map(int, layout.split("x")))


def memory(name: str) -> int:
    """The number of bytes that a program may use on a chip.

    Args:
      name: of a topology.

    Raises:
      UserError: there is no such topology.
    """
    return _split(name)[0].memory


def smallest(name: str, divisor: int) -> str:
    """Finds the smallest topology of the same generation with more than one chip.

    Args:
      name: of a topology.
      divisor: divides the number of chips.
    """
    entry, _ = _split(name)
    names = [f"{generation(name)}:{layout}" for layout in entry.layouts]
    return min((other for other in names if chips(other) > 1 and chips(other) % divisor == 0), key=chips, default=name)


def require_compiler() -> None:
    """Checks that the compiler of TPU programs, libtpu, is installed.

    Raises:
      UserError: it is not.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("plan: libtpu, the compiler of TPU programs, is not installed; make venv EXTRA=tpu")


def devices(name: str) -> list:
    """The devices of a topology, to compile for; nothing can run on them.

    Args:
      name: of the topology.

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
    return list(topologies.get_topology_desc(name, "tpu", **options).devices)
