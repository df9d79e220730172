"""What tensorboardX writes events with.

tensorboardX imports the clients of S3 and of Google's storage where they are installed, for paths that nobody gives it
here. They would be a tenth of a run's start, so they are imported when something asks for a part of them.
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any


class _Later(types.ModuleType):
    """Stands for a library, which is imported when something asks for a part of it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


@contextlib.contextmanager
def _imported_later(*names: str) -> Iterator[None]:
    """What is imported here and imports these libraries gets them later; nobody else does."""
    names = tuple(name for name in names if name not in sys.modules and _is_installed(name))
    sys.modules.update({name: _Later(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


with _imported_later("boto3", "google.cloud.storage"):
    from tensorboardX.event_file_writer import EventsWriter as EventsWriter
    from tensorboardX.proto.event_pb2 import Event as Event
    from tensorboardX.proto.event_pb2 import SessionLog as SessionLog
    from tensorboardX.proto.summary_pb2 import Summary as Summary
    from tensorboardX.summary import scalar as scalar
