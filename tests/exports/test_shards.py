"""One export over several workers: the same file, whichever worker writes which piece of it."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import msgspec
import pytest
import zstandard

from longshore.database.connect import open_pool
from longshore.exports.catalog import FieldType
from longshore.exports.manifest import SUFFIX
from longshore.exports.ranges import clauses, plan_ranges, ranges_of_slices
from longshore.exports.row_query import RowQuery
from longshore.exports.verify import verify
from tests.exports.engine import index_over
from tests.service import CHAIN, Longshore, database_in, downloaded, export_body, exported, in_own_loop
from tests.waiting import until

ROWS = 12_000  # of 2 kB: 24 MiB of table in six ranges
SHARD_ROWS = "4000"

SOURCE = f"""
create schema shards;
create table shards.ledger as
select n::bigint as id, {CHAIN}::bigint as chain_id, timestamptz '2026-01-01Z' + n * interval '1 minute' as "timestamp",
       repeat(md5(n::text), 60) || E', "quoted"\\nand on the next line' as note, n % 7 as amount, 'EUR' as currency
from generate_series(1, {ROWS}) n;
alter table shards.ledger add primary key (id);
create index on shards.ledger (chain_id, "timestamp");
analyze shards.ledger;
"""

CATALOG = """
[wallet-ledger]
description = "Wide rows."
relation = "shards.ledger"
chain = "chain_id"
time = "timestamp"
key = "id"
prefix = "Wallet"
totals = { amount = "amount", per = "currency" }

[wallet-ledger.fields]
id = { type = "number", description = "From 1, without a gap." }
timestamp = { type = "date", description = "A minute later in each row." }
note = { type = "text", description = "Long, with quotes and a line feed." }
amount = { type = "number", description = "0 to 6." }
currency = { type = "keyword", description = "EUR." }
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Longshore, Longshore]]:
    """Yield a service with two workers and shards above 4,000 rows, and one with a single worker and no shards."""
    folder = tmp_path_factory.mktemp("shards")
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG, encoding="utf-8")
    with ExitStack() as stack:
        made: list[Longshore] = []
        for name, settings in (("cut", {"shard_rows": SHARD_ROWS}), ("whole", {})):
            data = folder / name
            data.mkdir()
            url = stack.enter_context(database_in(data))
            source = made[0].url if made else url
            longshore = Longshore(data, url, catalog=str(catalog), source_url=source, **settings)
            stack.callback(longshore.stop)
            made.append(longshore)
        for statement in SOURCE.strip().removesuffix(";").split(";\n"):
            made[0].sql(statement)
        for longshore, workers in zip(made, (2, 1), strict=True):
            for _ in range(workers):
                longshore.start("worker")
            longshore.start_api()
        yield made[0], made[1]


@pytest.fixture(scope="module")
def clients(services: tuple[Longshore, Longshore]) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    cut, whole = services
    with cut.client() as first, whole.client() as second:
        yield first, second


def begun(service: Longshore) -> int:
    """Return the number of messages of shards that workers have finished."""
    return int(
        service.sql(
            "select count(*) from longshore.pgqueuer_log where entrypoint = 'longshore.shard' and status = 'successful'"
        )[0][0]
    )


PLAIN: dict[str | None, Callable[[bytes], bytes]] = {
    None: lambda content: content,
    "gzip": gzip.decompress,
    "zstd": lambda content: zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read(),
}


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_an_export_of_many_shards_is_the_file_that_one_worker_writes(
    services: tuple[Longshore, Longshore],
    clients: tuple[httpx2.Client, httpx2.Client],
    tmp_path: Path,
    format: str,
    compression: str | None,
) -> None:
    before = begun(services[0])
    found = []
    for client in clients:
        body = export_body(format)
        if compression:
            body["target"]["compression"] = compression
        task, content = exported(client, body)
        (run,) = client.get(f"/tasks/{task['id']}/runs").json()
        manifest = client.get(f"/tasks/{task['id']}/runs/1/manifest").json()
        assert hashlib.sha256(content).hexdigest() == run["sha256"] == manifest["sha256"]
        assert (run["rows"], run["bytes"]) == (ROWS, len(content))
        (tmp_path / manifest["file"]).write_bytes(content)
        (tmp_path / (manifest["file"] + SUFFIX)).write_bytes(json.dumps(manifest).encode())
        verify([tmp_path / manifest["file"]])
        found.append((PLAIN[compression](content), manifest["totals"], [entry["msg"] for entry in task["logs"]]))
    assert found[0] == found[1]
    assert found[0][1]["sums"], "nothing was added up"
    until(lambda: begun(services[0]) > before, "the messages of shards to be ticked off")
    assert services[0].sql("select from longshore.shards") == []
    assert [path for path in services[0].files() if "pieces" in path.parts] == []


def test_segments_and_increments_have_the_same_rows_with_and_without_shards(
    services: tuple[Longshore, Longshore], clients: tuple[httpx2.Client, httpx2.Client]
) -> None:
    rule = {"field_name": "id", "field_type": "number", "operator": "is_between_number", "min": 3, "max": ROWS - 3}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    before = begun(services[0])
    found = []
    for client in clients:
        filtered = exported(client, export_body(segment=segment))[1]
        body = export_body()
        body["target"]["incremental"] = True
        task, first = exported(client, body)
        assert client.post(f"/tasks/{task['id']}/execute").json()["code"] == "DONE"
        second = downloaded(client, task["id"])
        found.append((filtered, first, second))
    assert found[0] == found[1]
    assert [content.count(b"quoted") for content in found[0]] == [ROWS - 5, ROWS, 0]
    # The first increment too, unless its condition looks selective.
    until(lambda: begun(services[0]) >= before + 3, "the messages of shards to be ticked off")


@pytest.mark.parametrize("outliers", [(), ("9999-12-31",), ("0001-01-01", "4000-01-01 BC", "infinity")])
@pytest.mark.parametrize(
    ("kind", "relation"),
    [("timestamptz", "shards.narrow"), ("timestamp", "shards.narrow"), ("timestamptz", "shards.narrow_view")],
)
def test_ranges_of_time_are_grouped_by_their_rows_and_each_row_is_in_one_group(
    services: tuple[Longshore, Longshore],
    monkeypatch: pytest.MonkeyPatch,
    outliers: tuple[str, ...],
    kind: str,
    relation: str,
) -> None:
    rows, most = 120_000, 30_000
    monkeypatch.setattr("longshore.exports.ranges.RANGE_ROWS", 2_000)  # of a range, so that there are more of them
    statements = (
        "drop table if exists shards.narrow cascade",
        f'create table shards.narrow (id bigint, chain_id bigint, "timestamp" {kind})',
        # Half of the rows in the first tenth of the time, and some without a time.
        f"""insert into shards.narrow select n, {CHAIN}, timestamptz '2026-01-01Z'
            + case when n % 2 = 0 then n else n * 10 end * interval '1 second' from generate_series(1, {rows}) n""",
        f"update shards.narrow set timestamp = null where id % {rows // 3} = 0",
        "insert into shards.narrow select n, 1, now() from generate_series(1, 50000) n",
        *(f"insert into shards.narrow values (0, {CHAIN}, '{time}')" for time in outliers),
        'create index on shards.narrow (chain_id, "timestamp")',
        "create view shards.narrow_view as select * from shards.narrow",
        "vacuum analyze shards.narrow",
    )
    for statement in statements:
        services[0].sql(statement)
    index = index_over(relation, id=FieldType.NUMBER)
    index = msgspec.structs.replace(index, time="timestamp")

    async def counts() -> list[int]:
        source = RowQuery(index.from_clause, (CHAIN,))
        async with open_pool(services[0].url, size=1, name="test", enable_seqscan="off") as pool, pool.acquire() as one:
            cut = await plan_ranges(one, index, f"select id {source.sql}", source)
            assert {part.kind for part in cut.ranges} == {"times", "no time"}
            found = await ranges_of_slices(one, index, source, cut, most)
            return [
                sum(
                    [await one.fetchval(f"select count(*) {clause}", CHAIN) for clause in clauses(index, source, group)]
                )
                for group in found
            ]

    found = in_own_loop(counts())
    assert sum(found) == rows + len(outliers)
    assert len(found) >= 3
    assert max(found) < 2 * most


def test_a_full_run_with_deletes_is_written_by_many_workers_and_later_ones_by_one(
    services: tuple[Longshore, Longshore], clients: tuple[httpx2.Client, httpx2.Client]
) -> None:
    service, client = services[0], clients[0]
    before = begun(service)
    body = export_body()
    body["target"] |= {"incremental": True, "deletes": True}
    done, _ = exported(client, body)
    task = done["id"]
    until(lambda: begun(service) > before + 1, "the messages of the shards to be finished")
    written = begun(service)
    service.sql("update shards.ledger set amount = amount where id = 5")
    assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    second, first = client.get(f"/tasks/{task}/runs").json()
    assert [(run["full"], run["rows"]) for run in (first, second)] == [(True, ROWS), (False, 1)]
    assert begun(service) == written
    mirrors = [client.get(f"/tasks/{task}/runs/{run}/manifest").json()["mirror"] for run in (1, 2)]
    assert mirrors[0] == mirrors[1]
    assert mirrors[0]["rows"] == ROWS
