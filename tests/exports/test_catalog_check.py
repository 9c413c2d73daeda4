"""The check of the catalog by the live database, as an operator runs it."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from longshore.access.tokens import Scope
from longshore.exports import catalog
from longshore.exports.catalog_page import page
from tests.service import Longshore

TABLE = """
create table {schema}.odd (
    id bigint, chain_id bigint, chain_name text, at timestamptz, amount money, words text[], raw bytea, doc json,
    flag integer, mood {schema}.mood, code uuid, "Mixed" date, net inet, span tstzrange
)
"""

HEAD = """
[odd]
description = "-"
relation = "{schema}.odd"
chain = "chain_id"
time = "at"
prefix = "Odd"
"""


def checked(longshore: Longshore, toml: str | None, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}
    environment |= {"LONGSHORE_SOURCE_URL": longshore.url, "LONGSHORE_DATA": str(folder / "none")}
    environment |= settings
    if toml is not None:
        (folder / "catalog.toml").write_text(toml)
        environment["LONGSHORE_CATALOG"] = str(folder / "catalog.toml")
    command = [sys.executable, "-m", "longshore", "catalog", "check"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert not (folder / "none").exists()
    return found


def fields(**types: str) -> str:
    lines = [f'{name.strip("_")} = {{ type = "{kind}", description = "-" }}' for name, kind in types.items()]
    return "\n[odd.fields]\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def odd(service: Longshore) -> Longshore:
    for statement in (
        "drop schema if exists oddity cascade",
        "create schema oddity",
        "create type oddity.mood as enum ('good', 'bad')",
        TABLE.format(schema="oddity"),
        "create index on oddity.odd (chain_id)",
        "create table oddity.bare as table oddity.odd",
        "alter table oddity.bare add primary key (id)",
        "create view oddity.seen as table oddity.bare",
        "create view oddity.served as table oddity.odd",
        "create materialized view oddity.unread as table oddity.odd with no data",
    ):
        service.sql(statement)
    return service


def test_the_catalog_that_ships_fits_the_demo(service: Longshore, tmp_path: Path) -> None:
    found = checked(service, None, tmp_path)
    assert (found.returncode, found.stdout) == (0, "")
    assert "6 indexes, 126 fields: 0 wrong, 0 warnings" in found.stderr


def test_fields_whose_types_fit_have_no_findings(odd: Longshore, tmp_path: Path) -> None:
    good = {"id": "number", "at": "date", "Mixed": "date", "mood": "keyword", "code": "keyword", "net": "text"}
    toml = HEAD.format(schema="oddity") + fields(**good, id_="keyword", span="text")
    toml = toml.replace('id = { type = "keyword"', 'id2 = { type = "keyword", column = "id"')
    found = checked(odd, toml, tmp_path)
    assert (found.returncode, found.stdout) == (0, "")


def test_fields_whose_types_do_not_fit_are_named(odd: Longshore, tmp_path: Path) -> None:
    bad = {"amount": "number", "words": "keyword", "raw": "text", "doc": "text", "flag": "boolean", "att": "date"}
    toml = HEAD.format(schema="oddity") + fields(**bad, code="number")
    toml += 'broken = { type = "number", sql = "id +", description = "-" }\n'
    toml += 'unknown = { type = "text", sql = "no_such(id)", description = "-" }\n'
    found = checked(odd, toml, tmp_path)
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"odd.{name}" for name in (*bad, "code", "broken", "unknown")]
    assert lines[0].startswith("odd.amount: is money in the source, which is no number; expected float4 or")
    assert "array_to_string" in lines[1]
    assert lines[5] == 'odd.att: oddity.odd has no column att; did you mean "at"?'
    assert "syntax error" in lines[7]
    assert "no_such" in lines[8]
    assert "9 wrong" in found.stderr


def test_catalog_check_names_a_wrong_relation_key_or_filter(odd: Longshore, tmp_path: Path) -> None:
    head = HEAD.format(schema="oddity") + "{more}" + fields(id="number")
    for toml, expected in (
        (head.replace("oddity.odd", "oddity.od").replace("{more}", ""), "odd: there is no table or view oddity.od"),
        (head.replace('"chain_id"', '"chain"').replace("{more}", ""), "odd: `chain`: oddity.odd has no column chain;"),
        (
            head.replace('"chain_id"', '"chain_name"').replace("{more}", ""),
            "odd: `chain`: the column chain_name is text",
        ),
        (
            head.replace('"at"', '"flag"').replace("{more}", ""),
            "odd: `time`: the column flag is int4, expected date or",
        ),
        (head.replace("{more}", 'key = "no"\n'), "odd: `key`: oddity.odd has no column no"),
        (head.replace("{more}", 'filter = "not deleted"\n'), "odd: `filter` does not work: column"),
    ):
        found = checked(odd, toml, tmp_path)
        assert found.returncode == 1, toml
        assert found.stdout.startswith(expected), found.stdout


def test_a_materialized_view_that_was_never_refreshed_is_named(odd: Longshore, tmp_path: Path) -> None:
    found = checked(odd, HEAD.format(schema="oddity").replace(".odd", ".unread") + fields(id="number"), tmp_path)
    assert found.returncode == 1
    assert found.stdout == (
        'odd: oddity.unread has never been refreshed; run REFRESH MATERIALIZED VIEW "oddity"."unread";\n'
    )


def test_a_missing_index_is_a_warning_with_the_statement_that_makes_it(odd: Longshore, tmp_path: Path) -> None:
    found = checked(odd, HEAD.format(schema="oddity").replace(".odd", ".bare") + fields(id="number"), tmp_path)
    assert found.returncode == 0
    statement = 'CREATE INDEX CONCURRENTLY ON "oddity"."bare" ("chain_id", "at");'
    assert found.stdout == (
        f"warning: odd: no index serves the chain filter, so each export reads all chains; run {statement}\n"
    )
    for view, warned in (("seen", True), ("served", False)):
        found = checked(odd, HEAD.format(schema="oddity").replace(".odd", f".{view}") + fields(id="number"), tmp_path)
        assert found.returncode == 0
        assert ("on the tables behind the view" in found.stdout) is warned
    odd.sql(statement)
    found = checked(odd, HEAD.format(schema="oddity").replace(".odd", ".bare") + fields(id="number"), tmp_path)
    assert found.stdout == ""


def test_a_key_without_a_unique_index_is_a_warning_with_the_statement_that_makes_it(
    odd: Longshore, tmp_path: Path
) -> None:
    toml = HEAD.format(schema="oddity").replace("oddity.odd", "oddity.keyed") + 'key = ["id", "code"]\n'
    toml += fields(id="number", code="keyword")
    for statement in (
        "create table oddity.keyed as table oddity.odd with no data",
        "create index on oddity.keyed (chain_id)",
        "create index on oddity.keyed (id, code)",
        "create unique index on oddity.keyed (id, code, flag)",
        "create unique index on oddity.keyed (id, abs(id))",
        "create unique index on oddity.keyed (id) where flag > 0",
    ):
        odd.sql(statement)
    found = checked(odd, toml, tmp_path)
    create = 'CREATE UNIQUE INDEX CONCURRENTLY ON "oddity"."keyed" ("chain_id", "id", "code");'
    assert found.returncode == 0
    assert found.stdout == (
        "warning: odd: `key`: no unique index is over chain_id, id and code or some of them, so a key may occur twice,"
        f" which `deletes` notices within the rows of a copy alone; run {create}\n"
    )
    for statement in (create, "create unique index on oddity.keyed (code) include (flag)"):
        odd.sql(statement)
        assert checked(odd, toml, tmp_path).stdout == ""
        odd.sql("drop index if exists oddity.keyed_chain_id_id_code_idx")


def test_the_page_of_the_indexes_is_generated_from_the_catalog() -> None:
    written = (Path(__file__).parents[2] / "docs" / "indexes.md").read_text(encoding="utf-8")
    assert written == page(catalog.load()), "run: longshore catalog docs > docs/indexes.md"


def test_help_of_the_catalog_check_has_an_example() -> None:
    command = [sys.executable, "-m", "longshore", "catalog", "check", "--help"]
    assert "Example:" in subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_a_token_that_hides_a_column_which_the_catalog_has_renamed_is_named(service: Longshore, tmp_path: Path) -> None:
    pair = service.token(chain=77, scope=Scope(hidden_columns=["users.phone_number", "users.birthday"]))
    text = (resources.files("longshore.exports") / "catalog.toml").read_text(encoding="utf-8")
    renamed = text.replace("\nphone_number = {", '\nphone = { column = "phone_number",')
    assert renamed != text
    found = checked(service, renamed, tmp_path, LONGSHORE_DATABASE_URL=service.url)
    named = [line for line in found.stdout.splitlines() if pair.split(":")[0] in line]
    assert len(named) == 1
    assert named[0].startswith("users.phone_number: access token ")
    assert found.returncode == 1


def test_a_role_that_may_read_only_some_columns_is_a_warning(odd: Longshore, tmp_path: Path) -> None:
    odd.sql("grant usage on schema oddity to longshore_export")
    odd.sql("grant select (id, chain_id) on oddity.odd to longshore_export")
    try:
        found = checked(odd, HEAD.format(schema="oddity") + fields(id="number"), tmp_path)
    finally:
        odd.sql("revoke select (id, chain_id) on oddity.odd from longshore_export")
    assert found.stdout.count("warning: odd: longshore_export may read only some columns of oddity.odd (not ") == 1
    assert found.returncode == 0
