"""Previews of relations with odd rows, made in this process."""

import asyncio
import tracemalloc
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest

from longshore.database.connect import connected_to_read
from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import choices
from longshore.exports.preview import MAX_SAMPLE_ROW_BYTES, Preview, preview
from longshore.exports.segments.rules import Rule, Segment
from tests.exports.engine import CHAIN, export, index_over
from tests.service import Longshore

NOTES = [7, MAX_SAMPLE_ROW_BYTES, 1_000_000, MAX_SAMPLE_ROW_BYTES // 2]  # characters


def previewed(url: str, index: Index, segment: Segment) -> Preview:
    async def found() -> Preview:
        async with connected_to_read(url, "test") as connection:
            return await preview(connection, index, choices(None, index), segment, CHAIN)

    return asyncio.run(found())


def test_sample_of_a_preview_leaves_out_rows_that_are_too_large(shop: Longshore) -> None:
    shop.sql(
        "create table public.wide as select n as id, 1764 as chain_id, now() as at, repeat('x', size) as note"
        " from unnest($1::int[]) with ordinality given (size, n)",
        NOTES,
    )
    index = index_over("public.wide", id=FieldType.NUMBER, note=FieldType.TEXT)

    segment = Segment(entity="people", index="wide", join="all", chain_id=CHAIN, rules=[])
    seen = previewed(shop.url, index, segment)
    assert [msgspec.json.decode(row)["id"] for row in seen.sample] == [1, 4]
    content, copied, _ = asyncio.run(export(shop.url, index, "csv"))
    assert (seen.rows, seen.bytes) == (copied.rows, len(content))


@pytest.mark.parametrize(
    ("rule", "ids"),
    [
        ({"operator": "is_in_interval"}, [1, 2]),
        ({"operator": "relative_less_than", "time_factor": "day", "time_amount": 1}, [2]),
        ({"operator": "relative_more_than", "time_factor": "day", "time_amount": 1}, [1]),
    ],
)
def test_interval_of_a_preview_has_no_start_and_ends_now(shop: Longshore, rule: dict[str, Any], ids: list[int]) -> None:
    shop.sql("drop table if exists public.dated")
    shop.sql(
        "create table public.dated as select n as id, 1764 as chain_id, now() + shift as at"
        " from unnest(array['-90 years', '-1 hour', '1 hour']::interval[]) with ordinality given (shift, n)"
    )
    rules = [Rule(field_name="at", field_type="date", **rule)]
    segment = Segment(entity="people", index="dated", join="all", chain_id=CHAIN, rules=rules)
    seen = previewed(shop.url, index_over("public.dated", id=FieldType.NUMBER, at=FieldType.DATE), segment)
    assert [msgspec.json.decode(row)["id"] for row in seen.sample] == ids


def test_preview_of_large_rows_takes_none_of_them_into_memory(shop: Longshore) -> None:
    shop.sql(
        "create table public.larger as select n as id, 1764 as chain_id, now() as at, repeat('x', 4000000) as note"
        " from generate_series(1, 3) n"
    )
    index = index_over("public.larger", id=FieldType.NUMBER, note=FieldType.TEXT)
    tracemalloc.start()
    try:
        seen = previewed(shop.url, index, Segment(entity="people", index="l", join="all", chain_id=CHAIN, rules=[]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.bytes is not None and seen.bytes > 12_000_000
    assert peak < 2_000_000


@pytest.mark.parametrize("kind", ["smallint", "int", "bigint"])
@pytest.mark.parametrize(
    ("rule", "ids", "is_served"),
    [
        ({"operator": "is", "value": 7}, [7], True),
        ({"operator": "is", "value": 7.0}, [7], True),
        ({"operator": "is", "value": 7.5}, [], False),
        ({"operator": "is_one_of", "value": [7, 2**63, Decimal("9.0")]}, [7, 9], False),
        ({"operator": "is_greater_than", "value": 997}, [998, 999, 1000], True),
        ({"operator": "is_greater_than", "value": Decimal("997.5")}, [998, 999, 1000], False),
        ({"operator": "is_less_than", "value": 10**30}, list(range(1, 1001)), True),
        ({"operator": "is_between_number", "min": -(2**63), "max": 2}, [1, 2], True),
    ],
)
def test_an_index_of_integers_serves_rules_of_whole_numbers(
    shop: Longshore, kind: str, rule: dict[str, Any], ids: list[int], is_served: bool
) -> None:
    shop.sql("drop table if exists public.numbered")
    shop.sql(
        f"create table public.numbered as select n::{kind} as id, 1764 as chain_id, now() as at"
        " from generate_series(1, 1000) n"
    )
    shop.sql("create index on public.numbered (chain_id, id)")
    shop.sql("analyze public.numbered")
    index = index_over("public.numbered", id=FieldType.NUMBER)
    rules = [Rule(field_name="id", field_type="number", **rule)]
    segment = Segment(entity="people", index="numbered", join="all", chain_id=CHAIN, rules=rules)
    seen = previewed(shop.url, index, segment)
    assert seen.rows == len(ids)
    assert [msgspec.json.decode(row)["id"] for row in seen.sample] == ids[:10]
    assert ("no-index" not in [notice.code for notice in seen.warnings]) is is_served


def test_an_integer_column_that_the_catalog_calls_boolean_is_refused_by_the_source(shop: Longshore) -> None:
    shop.sql("drop table if exists public.flagged")
    shop.sql("create table public.flagged as select 1 as id, 1764 as chain_id, now() as at, 1 as flag")
    index = index_over("public.flagged", flag=FieldType.BOOLEAN)
    rule = Rule(field_name="flag", field_type="boolean", operator="is", value=True)
    segment = Segment(entity="people", index="flagged", join="all", chain_id=CHAIN, rules=[rule])
    with pytest.raises(asyncpg.UndefinedFunctionError):
        previewed(shop.url, index, segment)
