"""Whatever is done to a table, and whatever becomes of runs: the copy made from the results equals a full export.

`make soak` sets CHANGES_EXAMPLES, for many more examples.
"""

import os
import threading
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from longshore.results.local_files import LocalFile
from longshore.tasks.attempts import RunResult, StaleAttemptError
from tests.exports.changing_table import EXPECTED, KEYS, ChangingDatabase, ChangingTask, Copy, fits
from tests.service import CHAIN

EXAMPLES = int(os.environ.get("CHANGES_EXAMPLES", "15"))
IDS = range(6)
LATE = 3  # every third row belongs to the transaction that commits late, while it is open
ODD_CODES = ["", "A", "a", "ä", "1:2", '"', "\n", "$1", "'", "=1"]

INSERT = """
insert into shop.things (id, chain_id, code, line, kind, amount, shelf)
select $1::bigint, $2, $3 || $1::bigint, $1::bigint % 2, $4, $5::text::numeric, $6
where not exists (select from shop.things where id = $1)
"""
DETACH = "alter table shop.things detach partition shop.shelf_1"
ATTACH = "alter table shop.things attach partition shop.shelf_1 for values in (1)"
IS_ATTACHED = "select exists (select from pg_inherits where inhrelid = 'shop.shelf_1'::regclass)"
# A table that is loaded before it takes the place of the partition: nothing in it is written afterwards.
PREPARE = """
drop table if exists shop.shelf_new;
create table shop.shelf_new (like shop.shelf_1);
insert into shop.shelf_new select id, chain_id, at, code, line, kind, amount, version + 10, shelf from shop.shelf_1
"""
REPLACE = "drop table shop.shelf_1; alter table shop.shelf_new rename to shelf_1"
IS_PREPARED = "select to_regclass('shop.shelf_new') is not null"

Round = tuple[list[tuple[Any, ...]], tuple[str]]
"""The writes, and the fate of the run that follows."""

ids = st.sampled_from(IDS)
kinds = st.sampled_from(["sale", "gift"])
writes = st.one_of(
    st.tuples(
        st.just("insert"), ids, st.sampled_from([CHAIN, CHAIN, 9]), st.sampled_from(ODD_CODES), kinds,
        st.sampled_from(["1", "1.0", "2.50", "-0.25"]), st.sampled_from([0, 1]),
    ),
    st.tuples(st.sampled_from(["update", "delete", "rekey", "recode", "toggle", "rescale", "reshelve"]), ids),
    st.tuples(st.just("kind"), ids, kinds),
    st.tuples(st.just("chain"), ids, st.sampled_from([CHAIN, 9])),
    st.tuples(st.sampled_from(["open late", "open late", "commit", "rollback", "truncate"])),
    st.tuples(st.sampled_from(["detach", "attach", "prepare", "swap"])),
)  # fmt: skip
ends = ["run done", "fail", "lose", "stale", "give up", "acknowledge", "list gone", "list damaged"]
runs = st.tuples(st.sampled_from([*["run done"] * 8, *ends]))
rounds = st.lists(st.tuples(st.lists(writes, min_size=1, max_size=5), runs), min_size=3, max_size=9)
STATEMENTS = {
    "update": "update shop.things set version = version + 1 where id = $1",
    "delete": "delete from shop.things where id = $1",
    "rekey": "update shop.things set id = id + 1000, code = code || '~' where id = $1 and not exists "
    "(select from shop.things where id = $1 + 1000)",
    "recode": "update shop.things set code = code || '!' where id = $1",
    "toggle": "with shown as (delete from shop.hidden where id = $1 returning id)"
    " insert into shop.hidden select $1 where not exists (select from shown)",
    "rescale": "update shop.things set amount = amount * 1.0 where id = $1",
    "reshelve": "update shop.things set shelf = 1 - shelf where id = $1 and "
    "exists (select from pg_inherits where inhrelid = 'shop.shelf_1'::regclass)",
    "kind": "update shop.things set kind = $2 where id = $1",
    "chain": "update shop.things set chain_id = $2 where id = $1",
}


DONE = ("run done",)
COMES_INTO_VIEW: list[Round] = [([("toggle", 1)], DONE), ([("toggle", 1)], DONE)]
COMMITS_LATE: list[Round] = [
    ([("open late",), ("update", 3), ("update", 1)], DONE),
    ([("update", 2)], DONE),
    ([("commit",)], DONE),
]
REPLACED: list[Round] = [([("prepare",)], DONE), ([], ("acknowledge",)), ([], DONE), ([("swap",)], ("acknowledge",))]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rounds=rounds,
    index=st.sampled_from(sorted(KEYS)),
    format=st.sampled_from(["csv", "jsonl", "json", "parquet"]),
    segment=st.booleans(),
    on_ack=st.booleans(),
)
@example(rounds=COMES_INTO_VIEW, index="by-id", format="csv", segment=True, on_ack=False)
@example(rounds=COMMITS_LATE, index="by-code", format="jsonl", segment=False, on_ack=False)
@example(rounds=REPLACED, index="by-id", format="parquet", segment=True, on_ack=True)
def test_the_copy_made_from_the_results_equals_a_full_export(
    world: ChangingDatabase,
    rounds: list[tuple[list[tuple[Any, ...]], tuple[str]]],
    index: str,
    format: str,
    segment: bool,
    on_ack: bool,
) -> None:
    example = Example(world, index, format, segment=segment, on_ack=on_ack)
    steps = [step for some, run in rounds for step in (*some, run)]
    last = [("commit",), ("acknowledge",), ("run done",), ("acknowledge",), ("run done",)]
    world.runner.run(example.play([("run done",), *steps, *last]))
    assert example.checked >= 2


class Example:
    """One task, its reader's copy, and what is done to the table."""

    def __init__(self, world: ChangingDatabase, index: str, format: str, *, segment: bool, on_ack: bool) -> None:
        self.checked = 0
        self._world = world
        self._task = ChangingTask(world.pool, world.folder)
        self._target = {"export_format": format, "incremental": "on_ack" if on_ack else True}
        self._index = index
        self._segment = segment
        self._on_ack = on_ack
        self._copy = Copy(KEYS[index])
        self._expected: list[Any] = []
        self._open = False
        self._run = 0

    async def play(self, steps: list[tuple[Any, ...]]) -> None:
        """Play all steps."""
        writer = self._world.writer
        await writer.execute("truncate shop.things, shop.hidden")
        await writer.execute("drop table if exists shop.shelf_new")
        if not await writer.fetchval(IS_ATTACHED):
            await writer.execute(f"truncate shop.shelf_1; {ATTACH}")
        for id in IDS:
            await writer.execute(INSERT, id, CHAIN, ODD_CODES[id], "sale" if id % 4 else "gift", "1.0", id % 2)
        await self._task.create(self._index, segment=self._segment, **self._target)
        try:
            for name, *values in steps:
                if name in STATEMENTS or name == "insert":
                    await self._write(name, values)
                else:
                    await getattr(self, "_" + name.replace(" ", "_"))()
        finally:
            if self._open:
                await self._rollback()

    async def _write(self, name: str, values: list[Any]) -> None:
        late = self._open and values[0] % LATE == 0
        if self._open and not late and name == "toggle":
            return
        connection = self._world.late if late else self._world.writer
        if name == "insert":
            if values[-1] == 1 and not await connection.fetchval(IS_ATTACHED):
                values[-1] = 0
            id, chain, code, *rest = values
            await connection.execute(INSERT, id, chain, code, *rest)
        else:
            await connection.execute(STATEMENTS[name], *values)

    async def _open_late(self) -> None:
        if not self._open:
            await self._world.late.execute("begin")
            self._open = True

    async def _commit(self) -> None:
        if self._open:
            await self._world.late.execute("commit")
            self._open = False

    async def _rollback(self) -> None:
        if self._open:
            await self._world.late.execute("rollback")
            self._open = False

    async def _alter(self, statement: str, *, attached: bool) -> None:
        if not self._open and await self._world.writer.fetchval(IS_ATTACHED) is attached:
            await self._world.writer.execute(statement)

    async def _truncate(self) -> None:
        await self._alter("truncate shop.things", attached=True)

    async def _detach(self) -> None:
        await self._alter(DETACH, attached=True)

    async def _attach(self) -> None:
        # Rows that took a key of the partition meanwhile give way to it.
        gone = "delete from shop.things where id in (select id from shop.shelf_1);"
        await self._alter(f"{gone} {ATTACH}", attached=False)

    async def _prepare(self) -> None:
        await self._alter(PREPARE, attached=True)

    async def _swap(self) -> None:
        if await self._world.writer.fetchval(IS_PREPARED):
            gone = "delete from shop.things where shelf <> 1 and id in (select id from shop.shelf_new);"
            await self._alter(f"begin; {gone} {DETACH}; {REPLACE}; {ATTACH}; commit", attached=True)

    async def _finish(self, attempt: Any, result: RunResult) -> None:
        await self._task.finish(attempt, result)
        self._run = attempt.run
        manifest, rows = self._task.read(result)
        if not manifest["given_again"]:
            found = await self._world.writer.fetch(EXPECTED, CHAIN, not self._segment)
            self._expected = [dict(row) for row in found]
        self._copy.apply(manifest, rows)
        assert (manifest["upserts"] + manifest["deletes"], manifest["rows"]) == (len(rows),) * 2
        fits(self._copy, manifest, self._expected)
        self.checked += 1

    async def _run_done(self) -> None:
        attempt = await self._task.begin()
        await self._finish(attempt, await self._task.export(attempt))

    async def _fail(self) -> None:
        attempt = await self._task.begin()
        await self._task.export(attempt)
        await self._task.fail(attempt)

    async def _lose(self) -> None:
        attempt = await self._task.begin()
        await self._task.export(attempt)
        attempt = await self._task.lose(attempt)
        await self._finish(attempt, await self._task.export(attempt))

    async def _stale(self) -> None:
        first = await self._task.begin()
        late_result = await self._task.export(first)
        second = await self._task.lose(first)
        result = await self._task.export(second)
        with pytest.raises(StaleAttemptError):
            await self._task.finish(first, late_result)
        await self._finish(second, result)

    async def _give_up(self) -> None:
        await self._task.fail(await self._task.begin())

    async def _acknowledge(self) -> None:
        if self._on_ack and self._run:
            await self._task.acknowledge(self._run)

    async def _list_gone(self) -> None:
        for path in self._task.lists():
            path.unlink()

    async def _list_damaged(self) -> None:
        for path in self._task.lists():
            path.write_bytes(path.read_bytes()[:-9])


def test_key_list_is_opened_in_a_thread_as_a_bucket_is_asked_for_it(
    world: ChangingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    opened = LocalFile.open

    def recorded(file: LocalFile) -> IO[bytes]:
        threads.append(threading.current_thread())
        return opened(file)

    monkeypatch.setattr(LocalFile, "open", recorded)
    task = ChangingTask(world.pool, world.folder)
    world.runner.run(task.create())
    for _ in range(2):
        world.runner.run(task.run())
    assert threads
    assert threading.main_thread() not in threads
