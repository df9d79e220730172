"""The errors that end a command with a message instead of a traceback."""


class _OneLine(Exception):
    """An error whose message is one line, whatever the values in it hold."""

    def __init__(self, message: object) -> None:
        super().__init__("\\n".join(str(message).splitlines()))


class UserError(_OneLine):
    """Wrong use or bad data: one line that names file, value and what was expected; exit status 2."""


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
