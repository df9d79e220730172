"""The errors that end a command with a message instead of a traceback."""

import errno
import os

# What an operating system says of a disk or a network that is away: the same call may succeed a minute later.
_NAMES_OF_A_MOMENT = (
    "EIO ESTALE ETIMEDOUT ENOTCONN ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN"
)
_OF_A_MOMENT = tuple(
    getattr(errno, name)
    for name in (*_NAMES_OF_A_MOMENT.split(), "ENETUNREACH", "EREMOTEIO")  # not every system has the last
    if hasattr(errno, name)
)
_WORDS_OF_A_MOMENT = tuple(map(os.strerror, _OF_A_MOMENT))


class _OneLine(Exception):
    """An error whose message is one line, whatever the values in it hold."""

    def __init__(self, message: object) -> None:
        super().__init__("\\n".join(str(message).splitlines()))


class UserError(_OneLine):
    """Wrong use or bad data: one line that names file, value and what was expected; exit status 2."""


class TransientError(UserError):
    """A disk or network that failed for a moment: the same command may succeed later; exit status 75."""


def is_transient(error: BaseException) -> bool:
    """Whether an error is of a disk or network that may be back a moment later.

    Args:
      error: of the system, or of a library that has the system's words in its own.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OF_A_MOMENT
    return isinstance(error, TransientError) or any(words in str(error) for words in _WORDS_OF_A_MOMENT)


def of_system(error: Exception, line: str) -> UserError:
    """The error in which a user gets one of the system.

    Args:
      error: of the system, or of a library.
      line: the message.

    Returns:
      TransientError where another try may succeed, UserError otherwise; the caller raises it.
    """
    if is_transient(error):
        return TransientError(f"{line}; the same command goes on once the disk answers again")
    return UserError(line)


class PreemptedError(_OneLine):
    """The run was told to stop and has saved a checkpoint: one line that says where it goes on.

    Attributes:
      status: exit status, 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, message: str, status: int = 143) -> None:
        """Makes the error.

        Args:
          message: what happened, and how the run goes on.
          status: exit status of the command.
        """
        super().__init__(message)
        self.status = status


class NonFiniteError(_OneLine):
    """A loss or gradient that is not finite: one line that names step and metric; exit status 3."""
