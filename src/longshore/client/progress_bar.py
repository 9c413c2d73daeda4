"""A progress bar: one line that is drawn again on a terminal and in a notebook, a line every ten seconds elsewhere."""

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from longshore.client.model import Progress

REDRAW_SECONDS = 0.1
LINE_SECONDS = 10.0
CELLS = 30
NOTEBOOK_COLUMNS = 80


class ProgressBar:
    """A bar for one operation, on standard error. Close it, or use it in a `with` statement."""

    def __init__(self, label: str, unit: str, to: TextIO | None = None) -> None:
        self._label = label
        self._unit = unit
        self._to = to or sys.stderr
        self._redraws = self._to.isatty() or "ipykernel" in sys.modules  # a notebook's output understands "\r" too
        self._began = self._drawn = time.monotonic()
        self._line = ""

    def update(self, done: int, total: int | None) -> None:
        """Show how much is done, of how much if that is known."""
        now = time.monotonic()
        pause = REDRAW_SECONDS if self._redraws else LINE_SECONDS
        if self._line and now - self._drawn < pause and done != total:
            return
        self._drawn = now
        line = self._text(done, total, now - self._began)
        if line == self._line:
            return
        if self._redraws:
            columns = shutil.get_terminal_size().columns if self._to.isatty() else NOTEBOOK_COLUMNS
            shown = line[: columns - 1]
            self._to.write(f"\r{shown:<{min(len(self._line), columns - 1)}}")
        else:
            self._to.write(f"{line}\n")
        self._line = line
        self._to.flush()

    def update_run(self, progress: Progress) -> None:
        """Show the progress of a run."""
        self.update(progress.rows, progress.rows_expected)

    def _text(self, done: int, total: int | None, seconds: float) -> str:
        parts = [self._label]
        share = min(done / total, 1.0) if total else None
        if share is not None and self._redraws:
            filled = int(share * CELLS)
            parts.append("━" * filled + "─" * (CELLS - filled))
        if share is not None:
            parts.append(f"{share:4.0%}")
        parts.append(f"{done:,} {self._unit}")
        if seconds >= 1:
            parts.append(f"{done / seconds:,.0f}/s")
            if total and 0 < done < total:
                left = seconds * (total - done) / done
                parts.append(f"{left:,.0f} s left")
        return "  ".join(parts)

    def close(self) -> None:
        """End the line."""
        if self._redraws and self._line:
            self._to.write("\n")
            self._to.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
