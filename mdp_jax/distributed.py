"""Several processes as one run: how they find each other, agree, and add up what each of them counted.

With one process nothing here communicates, and every function returns what it was given.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdp_jax import runtime
from mdp_jax.errors import UserError
from mdp_jax.runtime import has_tpu

_PATIENCE = 10  # seconds that process 0 gives the others to say what is wrong with them, before it takes them down
# Which process this is, and of how many. Noted while all of them are there: JAX would start the devices to tell, and
# wait for processes that may have gone.
_JOINED = {"process": 0, "count": 1}
# What flags say, and the variables that say the same where a launcher cannot give each process flags of its own.
VARIABLES = {"coordinator": "MDP_COORDINATOR", "processes": "MDP_PROCESSES", "process": "MDP_PROCESS"}


class Address(NamedTuple):
    """How a process joins the others of its run.

    Attributes:
      coordinator: HOST:PORT of process 0.
      processes: how many processes the run has, at least 1.
      process: the number of this one, from 0.
    """

    coordinator: str
    processes: int
    process: int


def _number(name: str, text: str, low: int) -> int:
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) < low:
        raise UserError(f"--{name} {text:.80} (or {VARIABLES[name]}): expected a whole number from {low}")
    return int(text)


def given(args: argparse.Namespace, environment: Mapping[str, str]) -> Address | None:
    """Reads the address from the flags, or else from the variables.

    Args:
      args: what commands/arguments.py declares in `add_processes`.
      environment: the environment variables.

    Returns:
      The address; None where neither flags nor variables are given.

    Raises:
      UserError: only some of the three values are given, or a number is impossible.
    """
    values = {name: getattr(args, name) or environment.get(variable) or "" for name, variable in VARIABLES.items()}
    if not any(values.values()):
        return None
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise UserError(
            f"--{missing[0]} (or {VARIABLES[missing[0]]}): missing; expected --coordinator, --processes and --process "
            "together, or none of them"
        )
    host, colon, port = values["coordinator"].rpartition(":")
    if not (host and colon and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise UserError(
            f"--coordinator {values['coordinator']:.200} (or {VARIABLES['coordinator']}): expected HOST:PORT, such as "
            "10.0.0.2:8476"
        )
    processes = _number("processes", values["processes"], 1)
    process = _number("process", values["process"], 0)
    if process >= processes:
        raise UserError(
            f"--process {process}: expected a number from 0 to {processes - 1}, as --processes is {processes}"
        )
    return Address(values["coordinator"], processes, process)


def on_a_cluster(environment: Mapping[str, str]) -> bool:
    """Whether this is one of several processes, or hosts, that JAX finds without an address.

    Args:
      environment: the environment variables.
    """
    if environment.get("SLURM_STEP_NUM_TASKS", "") not in (
        "",
        "0",
        "1",
    ):  # of srun; in a batch script without it there is one
        return True
    if environment.get("JAX_PLATFORMS", "tpu") not in ("tpu", "tpu,cpu") or not importlib.util.find_spec("libtpu"):
        return False
    several_hosts = "," in environment.get("TPU_WORKER_HOSTNAMES", "")  # GKE
    return several_hosts or has_tpu(pathlib.Path("/"))


def start(args: argparse.Namespace) -> None:
    """Joins the other processes of the run, and starts the devices. Call it before JAX is used.

    Args:
      args: what commands/arguments.py declares in `add_processes`.

    Raises:
      UserError: the flags are wrong, or there are no devices of the platform that is required.
      SystemExit: the processes do not come together in time.
    """
    address = given(args, os.environ)
    try:
        if address is not None:
            # Otherwise a cluster that is detected all the same would choose among the devices of this machine.
            jax.distributed.initialize(*address, cluster_detection_method="deactivate")
        elif on_a_cluster(os.environ):
            jax.distributed.initialize()
        if jax.distributed.is_initialized():
            # Until the devices are started, which may fail here alone.
            _JOINED.update(process=int(os.environ.get("SLURM_PROCID", "1")), count=2)
            if address is not None:
                _JOINED.update(process=address[2], count=address[1])
        runtime.start_devices(args.platform)
        if jax.distributed.is_initialized():
            _JOINED.update(process=jax.process_index(), count=jax.process_count())
    except ValueError as error:
        raise UserError(f"the processes of this run cannot find each other: {_first_line(error)}") from None
    except RuntimeError as error:
        # Not the user's mistake but a machine that is late: status 1, so that launchers try again.
        raise SystemExit(f"mdp: the processes of this run did not come together: {_first_line(error)}") from None


def leave(status: int, said: str = "") -> None:
    """Ends this process at once where it is one of several: it met an error that the others may not have met.

    JAX would wait minutes for the others to end. Then it would end with its own exit status, and launchers would start
    the run again.

    Args:
      status: exit status.
      said: what is written to stderr first.
    """
    if _JOINED["count"] > 1:
        sys.stderr.write(said)
        sys.stdout.flush()
        sys.stderr.flush()
        if _JOINED["process"] == 0:
            time.sleep(_PATIENCE)
        os._exit(status)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def is_main() -> bool:
    """Whether this process is the one that writes logs and reports."""
    return jax.process_index() == 0


def say(line: str) -> None:
    """Prints a line on stderr, in process 0 alone."""
    if is_main():
        print(line, file=sys.stderr)


def barrier(name: str) -> None:
    """Waits until every process has made this call.

    Args:
      name: the name of the barrier, the same in every process.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def total(counts: np.ndarray) -> np.ndarray:
    """The sum over processes of an int64 array, which has the same shape in each of them."""
    return counts if jax.process_count() == 1 else _of_each(counts).sum(0)


def largest(values: np.ndarray) -> np.ndarray:
    """The largest of the values that processes have at each place of an int64 array, of the same shape in each."""
    return values if jax.process_count() == 1 else _of_each(values).max(0)


def _of_each(values: np.ndarray) -> np.ndarray:
    """int64 [processes, ...]."""
    # In two halves: JAX has no 64-bit integers unless they are turned on.
    halves = np.stack([values & 0xFFFFFFFF, values >> 32]).astype(np.uint32)
    low, high = np.moveaxis(np.asarray(multihost_utils.process_allgather(halves)).astype(np.int64), 1, 0)
    return low + (high << 32)


def from_main(value: int) -> int:
    """Gives every process the value of process 0.

    Args:
      value: of this process, of 32 bits.
    """
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def number_from_main(value: float) -> float:
    """Gives every process the number of process 0, bit for bit.

    Args:
      value: of this process.
    """
    if jax.process_count() == 1:
        return value
    halves = multihost_utils.broadcast_one_to_all(np.array([value], np.float64).view(np.uint32))
    return float(np.asarray(halves, np.uint32).view(np.float64)[0])


def _text_of_main(text: str) -> str:
    data = np.frombuffer(text.encode(), np.uint8)
    buffer = np.zeros(from_main(len(data)), np.uint8)
    if is_main():
        buffer[:] = data
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).astype(np.uint8).tobytes().decode()


def require_agreement(values: dict[str, object]) -> None:
    """Checks that every process has the same values, by their JSON.

    Args:
      values: {name: JSON value}; every process of one version of this package must give the same names.

    Raises:
      UserError: a process differs from process 0. Every process raises it and names the processes that differ; those
        name the first value too.
    """
    if jax.process_count() == 1:
        return
    theirs = json.loads(_text_of_main(json.dumps(values)))
    mine = json.loads(json.dumps(values))
    different = [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]
    flags = np.asarray(multihost_utils.process_allgather(np.int32(bool(different))))
    if different:
        name = different[0]
        raise UserError(
            f"process {jax.process_index()}: {name} is {mine.get(name)!r}, process 0 has {theirs.get(name)!r}; "
            "expected the same in every process"
        )
    if flags.any():
        others = ", ".join(str(index) for index in np.flatnonzero(flags))
        raise UserError(f"process {others}: another config, label space or photos than process 0; see what it says")
