"""`make fuzz`: a service against its OpenAPI document and against made-up bytes, for longer than tests have time."""

import asyncio
import sys
import tempfile
from pathlib import Path

from longshore.access.tokens import Level
from longshore.demo.seed import seed
from tests.access.users import new_user
from tests.api.test_schema import bearer, judged
from tests.odd_requests import count_answers, odd_requests
from tests.service import Longshore, database_in, ended, export_body

LEAST = 20_000  # requests
SHARE = {"a token": 6_000, "a session": 3_000, "a task that exists": 2_000, "nothing": 2_000}
ODD = 8_000  # requests made up byte by byte, see tests/odd_requests.py
# Tests of made-up destinations would connect to made-up hosts.
CONNECTING = ("/destinations/test", "/destinations/{id}/test")
ROUND = 100  # examples of each operation that schemathesis makes up before it is started again with another seed


def fuzz(folder: Path) -> int:
    """Make the requests and give their number. Raises AssertionError at the first answer outside the schema."""
    with database_in(folder) as url:
        asyncio.run(seed(url, 1000, lambda _: None))
        longshore = Longshore(folder, url)
        try:
            longshore.start("worker")
            longshore.start_api()
            return _odd(longshore) + sum(_enough(longshore, kind, least) for kind, least in SHARE.items())
        finally:
            longshore.stop()


def _odd(service: Longshore) -> int:
    session = "\r\n".join(f"{name}: {value}" for name, value in new_user(service, _1764=Level.ADMIN).session().items())
    bearers = [f"Authorization: Bearer {service.token(level)}" for level in Level]
    found = count_answers(service.port, odd_requests(7, ODD, session, *bearers))
    sys.stdout.write(f"byte by byte: {sum(found.values()):,} requests, by status {dict(sorted(found.items()))}\n")
    sys.stdout.flush()
    return sum(found.values())


def _enough(service: Longshore, kind: str, least: int) -> int:
    made = number = 0
    while made < least:
        number += 1
        config, options = "", ["--max-examples", str(ROUND), "--phases", "coverage,fuzzing", "--seed", str(number)]
        headers: dict[str, str] = {}
        without: tuple[str, ...] = CONNECTING
        if kind == "a session":
            headers = new_user(service, _1764=Level.WRITE).session()
            without = (*CONNECTING, "/auth/logout")  # it would end what the others need
        elif kind != "nothing":
            headers = bearer(service, Level.ADMIN)
        if kind == "a task that exists":
            config, options = f'[parameters]\n"path.id" = {_task(service)}\n', [*options, "--mode", "positive"]
        folder = service.data / f"fuzz {kind} {number}"
        service.sql("delete from longshore.sign_in_failures")
        made += len(judged(service, folder, *options, headers=headers, config=config, timeout=1800, without=without))
        sys.stdout.write(f"with {kind}: {made:,} requests\n")
        sys.stdout.flush()
    return made


def _task(service: Longshore) -> int:
    with service.client() as client:
        task: int = client.post("/tasks", json=export_body()).json()["id"]
        ended(client, task)
        return task


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="longshore-fuzz-") as made_in:
        total = fuzz(Path(made_in))
    sys.stdout.write(f"{total:,} requests, each answered as the document says\n")
    sys.exit(total < LEAST)
