"""A source with values at the edges of their types, and its catalog: the demo's, and one index more."""

from importlib import resources
from pathlib import Path
from typing import Any

from tests.service import CHAIN, Longshore, ended

CATALOG = """
[edges]
description = "Values at the edges of their types."
relation = "edges.values"
chain = "chain_id"
time = "at"
key = "id"
prefix = "Edges"

[edges.fields]
id = { type = "number", description = "Number of the row." }
at = { type = "date", description = "A moment." }
day = { type = "date", description = "A day." }
price = { type = "number", description = "An exact number." }
widest = { type = "number", description = "A number of 38 digits." }
figure = { type = "number", description = "A number without limits.", decimals = 4 }
ratio = { type = "number", description = "A floating-point number." }
flag = { type = "boolean", description = "Yes or no." }
words = { type = "text", description = "Text." }

[edges.fields.items]
type = "nested"
description = "Items."
fields.sku = { type = "keyword", description = "A code." }
fields.price = { type = "number", description = "A price.", decimals = 2 }
fields.returned = { type = "boolean", description = "Yes or no." }

[wide]
description = "A number of more digits than the protocol knows."
relation = "edges.wide"
chain = "chain_id"
time = "at"
key = "id"
prefix = "Wide"

[wide.fields]
id = { type = "number", description = "Number of the row." }
at = { type = "date", description = "A moment." }
figure = { type = "number", description = "A number of 50 digits." }
"""

SOURCE = f"""
create schema edges;
create table edges.values (
    id bigint primary key, chain_id bigint not null, at timestamptz, day date, price numeric(14, 2),
    widest numeric(38, 10), figure numeric, ratio double precision, flag boolean, words text, items jsonb
);
insert into edges.values values
    (1, {CHAIN}, '2026-05-26 12:00:00.123456+02', '2026-05-26', 0.10, 1234567890123456789012345678.0123456789, 0.1,
     0.1, true, 'plain', '[{{"sku": "0042", "price": 1.10, "returned": false}}]'),
    (2, {CHAIN}, '1969-12-31 23:59:59.999999+00', '1969-12-31', -0.01, -0.0000000001, -0.0001, -1e300, false,
     '日本語 🚢, "quoted"\n', '[]'),
    (3, {CHAIN}, '1883-11-18 12:03:57-04:56:02', '1583-01-01', 999999999999.99, 0, 123456789.5, 5e-324, null, '', null),
    (4, {CHAIN}, '0001-01-01 00:00:00+00', '0001-01-01', null, null, null, null, true, null,
     '[{{"sku": null, "price": null, "returned": null}}, {{"sku": "a", "price": 0.01, "returned": true}}]'),
    (5, {CHAIN}, '9999-12-31 23:59:59.999999+00', '9999-12-31', 1, 1, 1, 1, false, ' ', '[{{"sku": "b"}}]'),
    (6, {CHAIN}, null, null, null, null, null, null, null, null, null);
create table edges.wide (id bigint primary key, chain_id bigint not null, at timestamptz, figure numeric(50, 5));
insert into edges.wide values (1, {CHAIN}, now(), 1);
analyze edges.values;
"""


def write_catalog(folder: Path) -> Path:
    """Write the demo's catalog with the indexes of these tables to a file."""
    path = folder / "tables.toml"
    path.write_text((resources.files("longshore.exports") / "catalog.toml").read_text("utf-8") + CATALOG, "utf-8")
    return path


def share(service: Longshore, table: str, index: str, segment: Any = None, **target: Any) -> int:
    """Export an index as a table, and return the number of the task once it is done. `target`: more of its keys."""
    trigger = {"once": "2026-05-26T12:00:00Z"} | ({"segment": segment} if segment else {})
    body: dict[str, Any] = {
        "chain": CHAIN, "desc": f"the table {table}",
        "target": {"action": "export", "export_index": index, "export_format": "parquet", "share_as": table, **target},
        "trigger": trigger,
    }  # fmt: skip
    with service.client() as client:
        created = client.post("/tasks", json=body)
        assert created.status_code == 201, created.text
        task = ended(client, created.json()["id"])
    assert task["state"]["code"] == "DONE", task
    return int(task["id"])
