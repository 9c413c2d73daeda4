"""A worker that is killed at any point of a run with deletes: mark and key list stay together, the copy is right."""

import os
import signal
import subprocess
import sys

from longshore.tasks import requests
from longshore.tasks.attempts import StaleAttemptError
from longshore.tasks.model import ChainId
from tests.exports.changing_table import EXPECTED, KEYS, ChangingDatabase, ChangingTask, Copy, fits
from tests.service import CHAIN

# `make faults` asks for more.
POINTS = int(os.environ.get("FAULT_POINTS", "3"))


def dying(world: ChangingDatabase, task: ChangingTask, point: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.exports.dying_run", world.url, str(world.folder), str(task.id), str(point)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_copy_is_right_after_a_worker_was_killed_at_any_point_of_a_run_with_deletes(
    world: ChangingDatabase,
) -> None:
    run, writer, task, copy = (
        world.runner.run,
        world.writer,
        ChangingTask(world.pool, world.folder),
        Copy(KEYS["by-id"]),
    )

    async def ask() -> None:
        async with world.pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, ChainId(CHAIN), task.id)

    async def change(number: int) -> None:
        await writer.execute("update shop.things set version = version + 1 where id % 7 = $1", number % 7)
        await writer.execute("delete from shop.things where id = $1", number + 1)
        await writer.execute("update shop.things set kind = 'gift' where id = $1", number + 100)
        await writer.execute("insert into shop.things (id) values ($1)", number + 1000)

    async def check() -> bool:
        newest = await world.pool.fetchrow(
            "select r.location, r.manifest from longshore.runs r where task_id = $1 and state = 'DONE'"
            " order by run desc limit 1",
            task.id,
        )
        assert newest is not None
        manifest, rows = task.read_location(newest["location"])
        copy.apply(manifest, rows)
        fits(copy, manifest, [dict(row) for row in await writer.fetch(EXPECTED, CHAIN, False)])
        return bool(manifest["full"])

    async def take_over() -> None:
        newest = await task.newest()
        try:
            attempt = await task.lose(newest)
        except StaleAttemptError:  # the killed worker had sent its last statement, and the server carried it out
            return
        await task.finish(attempt, await task.export(attempt))

    run(writer.execute("truncate shop.things, shop.hidden"))
    run(writer.execute("insert into shop.things (id) select n from generate_series(1, 300) n"))
    run(task.create())
    run(ask())
    whole = dying(world, task, 0)
    assert whole.returncode == 0, whole.stderr
    assert run(check())
    run(change(0))
    run(ask())
    whole = dying(world, task, 0)
    assert not run(check())
    count = int(whole.stdout)
    assert count > 40
    for number in range(1, POINTS + 1):
        run(change(number))
        run(ask())
        # The last points are those of the publication and of the mark.
        died = dying(world, task, count - (count - 1) * (POINTS - number) // POINTS)
        assert died.returncode == -signal.SIGKILL, died.stderr
        run(take_over())
        assert not run(check())
    assert len(task.lists()) <= POINTS
