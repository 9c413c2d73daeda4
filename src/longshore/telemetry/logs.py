"""Structured logs: one line for each event, JSON unless standard error is a terminal."""

import contextlib
import json
import logging
import sys
from typing import TextIO, cast

import msgspec
import structlog

from longshore.settings import Settings


class DroppingStream:
    """A text stream that drops what cannot be written, as on a full disk or to a pipe without a reader.

    Loops log their errors (`database.retry`), and an error of the log would end them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a text if that is possible."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(settings: Settings) -> None:
    """Configure logging of this process to standard error."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = (
        # Local variables would show bodies, passwords and keys.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=False))]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, DroppingStream(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Messages of libraries below WARNING help only in debugging them.
    root.setLevel(max(level, logging.WARNING))


def _json(event: object, **_: object) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except UnicodeEncodeError:  # a lone surrogate, such as of a file's name; logging must not fail
        return json.dumps(event, default=repr)
