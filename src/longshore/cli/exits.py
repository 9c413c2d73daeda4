"""The exit codes of commands, and the error of a command that names its own."""

from longshore.errors import LongshoreError

DONE, FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, TIMED_OUT = range(6)
INTERRUPTED, PIPE_CLOSED = 130, 141  # as shells report SIGINT and SIGPIPE


class CommandError(LongshoreError):
    """An error of a command, with its exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
