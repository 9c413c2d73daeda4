"""A line on standard error that says for what a command waits, once it has waited for two seconds."""

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

import click

from longshore.cli.output import shows_notes

SECONDS = 2.0

Expect = Callable[[str], None]
"""Begins the two seconds anew, for something else. Each is told once."""


@contextlib.contextmanager
def noted(what: str) -> Iterator[Expect]:
    """Tell for what the command waits, if the context is open for more than two seconds.

    A context around this one waits for nothing meanwhile.
    """
    if not shows_notes():
        yield lambda _: None
        return
    line = _Line()
    for outer in _open[-1:]:
        outer.stop()
    _open.append(line)
    line.expect(what)
    try:
        yield line.expect
    finally:
        _open.pop()
        line.stop()
        for outer in _open[-1:]:
            outer.expect(outer.what)


class _Line:
    def __init__(self) -> None:
        self.what = ""
        self._timer: threading.Timer | None = None
        self._told: set[str] = set()

    def expect(self, what: str) -> None:
        self.stop()
        self.what = what
        if what not in self._told:
            self._timer = threading.Timer(SECONDS, self._tell, (what,))
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, what: str) -> None:
        self._told.add(what)
        line = f"longshore: waiting for {what}"
        if sys.stderr.isatty():  # a progress bar may be there
            line = f"\r{line:<{shutil.get_terminal_size().columns - 1}}"
        click.echo(line, err=True)


_open: list[_Line] = []
