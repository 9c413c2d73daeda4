"""The process of the command line: its streams, its end, and the exit code."""

import atexit
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import click
    from click.exceptions import Exit

    from longshore.cli import (  # noqa: F401  # each adds its commands to the app
        api_request,
        catalog,
        completion,
        database,
        destinations,
        exits,
        export,
        indexes,
        keys,
        login,
        secrets,
        segments,
        service,
        service_clients,
        shares,
        task_results,
        task_schedules,
        users,
        verify,
    )
    from longshore.cli.app import NAME, app
except KeyboardInterrupt:  # Ctrl-C while the commands are imported
    sys.exit(130)

__all__ = ["app", "main", "run"]


def main() -> None:
    """Run the command line of this process and exit with one of the codes of `exits`."""
    code = exits.FAILED

    def leave() -> None:
        # At the end of a process C++ destroys the pools of Arrow's threads, and a thread that ends meanwhile aborts it
        # (https://github.com/apache/arrow/issues/34314). Registered first, so all other handlers have run.
        if "pyarrow" in sys.modules:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    atexit.register(leave)
    for name, mode in (("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:  # closed by the shell, as in `2>&-`; a write to standard output has to fail
            setattr(sys, name, os.fdopen(os.open(os.devnull, mode), "w", encoding="utf-8"))
        getattr(sys, name).reconfigure(errors="backslashreplace")  # a locale may lack a character
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # until the process ends
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")  # whatever the locale
    code = run([os.fsencode(each).decode(errors="surrogateescape") for each in sys.argv[1:]])  # whatever the locale
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line, report its error, and return its exit code."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()  # a full disk is an error of the command
    except SystemExit as end:  # of a signal
        return int(end.code or 0)
    except (KeyboardInterrupt, click.Abort):  # Abort: an interrupt, or the end of the input, at a prompt
        return exits.INTERRUPTED
    except Exception as error:
        from longshore.cli import errors

        return errors.report(error, arguments)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    if instruction := os.environ.get(completion.VARIABLE):
        return completion.complete(instruction)
    try:
        with app.make_context(NAME, list(arguments)) as context:
            app.invoke(context)
    except Exit as end:
        return end.exit_code
    return exits.DONE
