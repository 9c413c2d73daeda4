"""`python -m tests.exports.dying_run URL FOLDER TASK POINT`: run the newest attempt of a task, and die at a point.

A point is a statement, or a change of a file in the results store. Point 0 is none; the number of points is printed.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from longshore.database.connect import open_pool
from longshore.exports.snapshot import EXPORT_SESSION
from tests.exports.changing_table import ChangingTask

STATEMENTS = frozenset({"execute", "fetch", "fetchrow", "fetchval", "copy_from_query"})
CHANGES = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree"})


class KillPoints:
    """Counts the points of this process, and kills it at one of them."""

    def __init__(self, last: int, folder: str) -> None:
        self.count = 0
        self._last = last
        self._folder = folder

    def on_call(self, frame: FrameType, event: str, _: Any) -> None:
        """Count a statement."""
        code = frame.f_code
        if event == "call" and code.co_name in STATEMENTS and code.co_filename.endswith("asyncpg/connection.py"):
            self._reach()

    def on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a change of a file."""
        if event in CHANGES and str(arguments[0]).startswith(self._folder):
            self._reach()

    def _reach(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, folder: Path, id: int, point: int) -> None:
    """Run the attempt."""
    async with open_pool(url, size=4, name="test", **EXPORT_SESSION) as pool:
        task = ChangingTask(pool, folder, id)
        attempt = await task.begin_attempt()
        points = KillPoints(point, str(task.folder))
        sys.addaudithook(points.on_audit)
        sys.setprofile(points.on_call)
        await task.finish(attempt, await task.export(attempt))
        sys.setprofile(None)
        print(points.count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
