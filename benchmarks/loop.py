"""The event loop: the processor time that the worst requests of every endpoint take in it, one after the other.

There is no peer: the bound is what a request may take of it while all others wait.
"""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import worst_requests
from tests.event_loop import MAX_SECONDS
from tests.service import database_in, in_own_loop

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import seed

ROWS = 20_000  # of the chain 1764
SHOWN = 5


def run(_options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Send the requests to an application in this process; say which took longest."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder, database_in(Path(folder)) as url:
        in_own_loop(seed(url, ROWS, lambda _: None))
        took = sorted(asyncio.run(worst_requests.measure(url, folder)), reverse=True)
    for each in took[:SHOWN]:
        tell(f"{each.seconds * 1000:.1f} ms: {each.method} {each.endpoint}, {each.name or 'as it is'}")
    longest, bound = took[0].seconds * 1000, MAX_SECONDS * 1000
    return [
        Case(
            name=f"the longest of {len(took):,} requests in the event loop, of processor time",
            peer_name="the bound",
            unit="ms",
            chosen="best of 3 where it was too long",
            ours=longest,
            peer=bound,
            ratio=longest / bound,
            target=f"at most {bound:g} ms",
            met=longest <= bound,
            ours_rounds=[longest],
            peer_rounds=[bound],
        )
    ]
