"""Pages: how long the server takes for the console's list of tasks, and Chromium until it paints it.

There is no peer: both figures have a target of their own. They are medians, of which one noisy moment changes nothing.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
from playwright.sync_api import sync_playwright
from tests.access.users import new_user
from tests.console.conftest import launch, sign_in
from tests.service import CHAIN, Longshore, database_in

from benchmarks import poll
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.access.tokens import Level

SERVER = 100.0  # ms
PAINT = 1000.0  # ms
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Fill a database of its own with tasks and look at the list."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            tell(f"writing {options.tasks:,} tasks")
            asyncio.run(poll.fill(url, options.tasks))
            longshore = Longshore(data, url)
            try:
                longshore.start_api(api_processes="1")
                served, painted = _look(longshore, options, tell)
            finally:
                longshore.stop()
    name = f"list of {options.tasks:,} tasks"
    return [_case(f"{name}, at the server", served, SERVER), _case(f"{name}, first paint", painted, PAINT)]


def _look(longshore: Longshore, options: Options, tell: Callable[[str], None]) -> tuple[list[float], list[float]]:
    user = new_user(longshore, _1764=Level.READ)
    path = f"/console/{CHAIN}/tasks"
    served, painted = [], []
    with httpx2.Client(base_url=longshore.address, headers=user.session()) as client:
        for _ in range(3 * options.rounds):
            began = time.perf_counter()
            assert client.get(path).status_code == 200
            served.append((time.perf_counter() - began) * 1000)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(base_url=longshore.address)
        sign_in(page, user)
        for _ in range(options.rounds):
            page.goto(path)
            page.wait_for_timeout(300)
            painted.append(float(page.evaluate(PAINTED)))
        browser.close()
    tell(
        f"server {min(served):.1f} ms at best, {max(served):.1f} at worst; paint {min(painted):.0f}, {max(painted):.0f}"
    )
    return served, painted


def _case(name: str, took: list[float], most: float) -> Case:
    return Case(
        name=name,
        peer_name="its target",
        unit="ms",
        chosen=f"median of {len(took)}",
        ours=sorted(took)[len(took) // 2],
        peer=most,
        ratio=sorted(took)[len(took) // 2] / most,
        target=f"under {most:.0f} ms",
        met=sorted(took)[len(took) // 2] < most,
        ours_rounds=took,
        peer_rounds=[most] * len(took),
    )
