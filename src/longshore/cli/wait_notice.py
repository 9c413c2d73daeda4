"""A line on standard error that names what a command waits for, once it has waited for two seconds."""

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

import click

from longshore.cli.output import shows_notes

SECONDS = 2.0


class _Notice:
    """The line about what the command waits for, which is printed once that has lasted for two seconds."""

    def __init__(self) -> None:
        self.what = ""
        self._timer: threading.Timer | None = None
        self._printed: set[str] = set()

    def begin(self, what: str) -> None:
        """Begin to wait for something, which is printed once at most."""
        self._stop(what)
        if what not in self._printed:
            self._timer = threading.Timer(SECONDS, self._print, (what,))
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """End all waits."""
        self._stop("")
        self._printed.clear()

    def _stop(self, what: str) -> None:
        self.what = what
        if self._timer is not None:
            self._timer.cancel()

    def _print(self, what: str) -> None:
        self._printed.add(what)
        line = f"longshore: waiting for {what}"
        if sys.stderr.isatty():  # a progress bar may be there
            line = f"\r{line:<{shutil.get_terminal_size().columns - 1}}"
        click.echo(line, err=True)


_NOTICE = _Notice()


@contextlib.contextmanager
def wait_notice(what: str) -> Iterator[Callable[[str], None]]:
    """Print what the command waits for, if the context is open for more than two seconds.

    The function that it yields begins the two seconds anew, for something else. A context around this one waits for
    nothing meanwhile.
    """
    if not shows_notes():
        yield lambda _: None
        return
    outer = _NOTICE.what
    _NOTICE.begin(what)
    try:
        yield _NOTICE.begin
    finally:
        _NOTICE.begin(outer) if outer else _NOTICE.end()
