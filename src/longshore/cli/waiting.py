"""A line on standard error that says for what a command waits, once it has waited for two seconds."""

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

import click

from longshore.cli.output import shows_notes

SECONDS = 2.0


class _Line:
    """The line about what the command waits for, which is printed once that has lasted for two seconds."""

    def __init__(self) -> None:
        self.what = ""
        self._timer: threading.Timer | None = None
        self._told: set[str] = set()

    def expect(self, what: str) -> None:
        """Begin to wait for something, each of which is told once; the empty string ends all waits."""
        self.what = what
        if self._timer is not None:
            self._timer.cancel()
        if not what:
            self._told.clear()
        elif what not in self._told:
            self._timer = threading.Timer(SECONDS, self._tell, (what,))
            self._timer.daemon = True
            self._timer.start()

    def _tell(self, what: str) -> None:
        self._told.add(what)
        line = f"longshore: waiting for {what}"
        if sys.stderr.isatty():  # a progress bar may be there
            line = f"\r{line:<{shutil.get_terminal_size().columns - 1}}"
        click.echo(line, err=True)


_LINE = _Line()


@contextlib.contextmanager
def noted(what: str) -> Iterator[Callable[[str], None]]:
    """Tell for what the command waits, if the context is open for more than two seconds.

    The function that it yields begins the two seconds anew, for something else. A context around this one waits for
    nothing meanwhile.
    """
    if not shows_notes():
        yield lambda _: None
        return
    outer = _LINE.what
    _LINE.expect(what)
    try:
        yield _LINE.expect
    finally:
        _LINE.expect(outer)
