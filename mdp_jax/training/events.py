"""What tensorboardX writes events with.

tensorboardX imports the clients of S3 and of Google's storage where they are installed, for paths that nobody gives it
here. They would be a tenth of a run's start, so they are imported when something asks for a part of them. It also
imports PyTorch where it is installed, which takes seconds, for tensors that nobody gives it here. It does without.
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any


class _Later(types.ModuleType):
    """Stands for a library, which is imported when something asks for a part of it."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:  # as inspect asks every module; importing it would give this again
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


@contextlib.contextmanager
def _imported_later(*names: str) -> Iterator[None]:
    """What is imported here and imports these libraries gets them later; nobody else does."""
    stand_ins = {name: _Later(name) for name in names if name not in sys.modules and _is_installed(name)}
    with _as_modules(stand_ins):
        yield


@contextlib.contextmanager
def _not_imported(name: str) -> Iterator[None]:
    """What is imported here finds no such library, unless it was imported before."""
    with _as_modules({} if name in sys.modules else {name: None}):
        yield


@contextlib.contextmanager
def _as_modules(modules: Mapping[str, types.ModuleType | None]) -> Iterator[None]:
    """These stand among the imported modules for a while; one that is None cannot be imported."""
    sys.modules.update(modules)  # type: ignore[arg-type]  # typeshed has no None, which the import system documents
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


with _imported_later("boto3", "google.cloud.storage"), _not_imported("torch"):
    from tensorboardX.event_file_writer import EventsWriter as EventsWriter
    from tensorboardX.proto.event_pb2 import Event as Event
    from tensorboardX.proto.event_pb2 import SessionLog as SessionLog
    from tensorboardX.proto.summary_pb2 import Summary as Summary
    from tensorboardX.summary import scalar as scalar
