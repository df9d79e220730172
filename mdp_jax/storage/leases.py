"""Locks of folders in buckets: an object that is made only where there is none, and that its holder renews."""

import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable

from mdp_jax.errors import UserError
from mdp_jax.storage import buckets

_SILENT = 30.0  # seconds without a renewal after which a holder counts as killed
_RENEWED = 8.0  # seconds from one renewal to the next
_LOST: set[str] = set()  # folders whose lock another command has taken, while this process stood still
_OURS: set[str] = set()  # locks that this process holds


class Lease:
    """A lock of a folder: objects PREFIX.N, of which the highest N holds.

    Of several commands that make PREFIX.N one alone makes it. A holder that was killed renews no more: the next number
    may be taken after 30 seconds without a change, and at once where its process is known to have died on this machine.
    Clocks of machines are not compared.
    """

    def __init__(self, prefix: str):
        """Makes it; nothing is locked yet.

        Args:
          prefix: path of a bucket, to which the numbers are added.
        """
        self._prefix = prefix
        self._folder, _, self._name = prefix.rpartition("/")
        self._token = uuid.uuid4().hex
        self._holder = {"token": self._token, "host": socket.gethostname(), "pid": os.getpid(), "of": _machine()}
        self._renewals = 0
        self._number = -1
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, say: Callable[[str], None]) -> bool:
        """Takes the lock, and renews it from then on. It waits where the holder may have been killed.

        Args:
          say: called with a line where it waits.

        Returns:
          Whether it was taken; not where another holder renews it.

        Raises:
          UserError: the objects cannot be read or written.
        """
        seen, since = b"", time.monotonic()
        while True:
            number, content = self._highest()
            silent = bool(seen) and content == seen and time.monotonic() - since > _SILENT
            if number < 0 or silent or _died(content):
                if buckets.create(f"{self._prefix}.{number + 1}", self._content()):
                    self._begin(number + 1)
                    return True
                seen = b""
            elif not seen:
                seen, since = content, time.monotonic()
                say(
                    f"{self._prefix}.{number} was not given back; waiting for {_SILENT:.0f} s to see whether the run "
                    f"that made it is alive ({_shown(content)})"
                )
            elif content != seen:
                return False
            time.sleep(0.5)

    def give_back(self) -> None:
        """Ends the renewals, and deletes the object."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        _OURS.discard(self._token)
        if self._number >= 0 and self._folder not in _LOST:
            buckets.delete([f"{self._prefix}.{self._number}"])
        _LOST.discard(self._folder)

    def _begin(self, number: int) -> None:
        self._number = number
        _OURS.add(self._token)
        _LOST.discard(self._folder)
        buckets.delete(f"{self._prefix}.{old}" for old in range(max(0, number - 4), number))
        self._thread = threading.Thread(target=self._renew, name="mdp-lease", daemon=True)
        self._thread.start()

    def _content(self) -> bytes:
        return json.dumps(self._holder | {"renewals": self._renewals}).encode()

    def _highest(self) -> tuple[int, bytes]:
        """The number of the newest lock, -1 where there is none, and what is in it."""
        parts = [name.rpartition(".") for name in buckets.entries(self._folder)]
        number = max((int(n) for stem, _, n in parts if stem == self._name and n.isdecimal()), default=-1)
        try:
            return number, buckets.read(f"{self._prefix}.{number}") if number >= 0 else b""
        except FileNotFoundError:  # given back at this moment
            return -1, b""

    def _renew(self) -> None:
        while not self._end.wait(_RENEWED):
            self._renewals += 1
            try:
                if self._highest()[0] > self._number:
                    _LOST.add(self._folder)
                    return
                buckets.write(f"{self._prefix}.{self._number}", self._content())
            except UserError:  # the storage does not answer; the run will meet it and say so
                continue


def require_held(folder: str) -> None:
    """Checks that no other command has taken the lock of a folder from this process.

    Args:
      folder: that this process may hold.

    Raises:
      UserError: one has.
    """
    if folder in _LOST:
        raise UserError(
            f"{folder}: another run went on in this folder while this process stood still; expected one run in it"
        )


def _machine() -> str:
    """This start of this machine, and the numbers that its processes have here; "" where that is not known."""
    try:
        started = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{started} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _parsed(content: bytes) -> dict:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _died(content: bytes) -> bool:
    """Whether the holder of a lock is known to have died; False where that is not known."""
    found = _parsed(content)
    process = found.get("pid")
    if not _machine() or found.get("of") != _machine() or not isinstance(process, int):
        return False
    if process == os.getpid():  # the number of a process that died, which this one got
        return found.get("token") not in _OURS
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _shown(content: bytes) -> str:
    found = _parsed(content)
    return f"process {found.get('pid')} of {found.get('host')}" if found else "of an unknown holder"
