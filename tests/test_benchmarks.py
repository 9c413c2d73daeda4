"""The peers of the benchmarks use parts of the service, so they are tried beside it."""

import asyncio
from pathlib import Path

from benchmarks import poll

from longshore.access.tokens import Level
from tests.service import Longshore, database_in

TASKS = 30


def test_the_peer_of_the_poll_benchmark_answers_as_the_service_does(tmp_path: Path) -> None:
    with database_in(tmp_path) as url:
        asyncio.run(poll.fill(url, TASKS))
        longshore = Longshore(tmp_path, url)
        try:
            longshore.start_api()
            with poll.serve_peer(longshore) as address:
                poll.see_that_both_answer_alike(longshore.address, address, longshore.token(Level.READ), TASKS)
        finally:
            longshore.stop()
