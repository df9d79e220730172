"""What fails in the threads of the checkpoint library is raised again by the call that waits for it, and said once.

The library says it up to hundreds of times more: in its log, by asyncio, and as threads and coroutines that ended with
an exception. These are dropped here, and those of all other code are not.
"""

import functools
import logging
import re
import sys
import threading
import types

# In the names of its files, in its messages, and in those of the C++ library under it.
_OF_THE_LIBRARY = re.compile(r"orbax|tensorstore|OCDBT|RESOURCE_EXHAUSTED: Error (writing|opening)")
_DEEPEST = 64  # frames of a traceback that are looked at


def _is_of_the_library(error: BaseException | None, said: str = "") -> bool:
    if _OF_THE_LIBRARY.search(said) or _OF_THE_LIBRARY.search(str(error)):
        return True
    trace: types.TracebackType | None = error.__traceback__ if error else None
    for _ in range(_DEEPEST):
        if trace is None:
            return False
        if _OF_THE_LIBRARY.search(trace.tb_frame.f_code.co_filename):
            return True
        trace = trace.tb_next
    return False


def _is_to_be_logged(record: logging.LogRecord) -> bool:
    """A filter of a logger."""
    error = record.exc_info[1] if record.exc_info else None
    return not _is_of_the_library(error, record.getMessage())


@functools.cache
def quiet() -> None:
    """Drops what the library says of a failure beside raising it; for as long as the process lives.

    A thread of it, or a coroutine, may outlive the checkpoints that it belongs to.
    """
    # At INFO and WARNING it logs every save; what the user must know is said where its calls are made.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_to_be_logged)
    in_thread, unraisable = threading.excepthook, sys.unraisablehook

    def of_thread(failed: threading.ExceptHookArgs) -> None:
        if not _is_of_the_library(failed.exc_value):
            in_thread(failed)

    def of_destructor(failed: "sys.UnraisableHookArgs") -> None:
        # Of coroutines of the library that were under way; and of its C++ threads, which name no object.
        of_writes = failed.object is None or "coroutine" in repr(failed.object)
        closed = str(failed.exc_value) == "Event loop is closed" and of_writes
        if not closed and not _is_of_the_library(failed.exc_value, repr(failed.object)):
            unraisable(failed)

    threading.excepthook, sys.unraisablehook = of_thread, of_destructor
