"""A progress bar: one line that is drawn again on a terminal and in a notebook, a line every ten seconds elsewhere."""

import shutil
import sys
import time
from typing import Self, TextIO

REDRAW_SECONDS = 0.1
LINE_SECONDS = 10.0
CELLS = 30
NOTEBOOK_COLUMNS = 80


class ProgressBar:
    """A bar for one operation, on standard error; `with` ends its line. `is_shown`: without, nothing is written."""

    def __init__(self, label: str, unit: str, to: TextIO | None = None, *, is_shown: bool = True) -> None:
        self._is_shown = is_shown
        self._label = label
        self._unit = unit
        self._to = to or sys.stderr
        # A notebook's output understands "\r" too.
        self._redraws = is_shown and (self._to.isatty() or "ipykernel" in sys.modules)
        self._began = self._drawn = time.monotonic()
        self._line = ""

    def update(self, done: int, total: int | None) -> None:
        """Show how much is done, of how much if that is known."""
        if not self._is_shown:
            return
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._redraws and self._line:
            self._to.write("\n")
            self._to.flush()
