"""The check of the catalog by the live source: every relation, column and type, and an index for each chain filter.

Without it, the first export would fail, or take an hour.
"""

from collections.abc import Iterator

import asyncpg

from longshore.database.connect import Connection
from longshore.errors import first_line
from longshore.exports import row_security_check, search_path_check
from longshore.exports.catalog import Catalog, Field, FieldType, Index, quoted_identifier
from longshore.exports.columns import FLOATS, INTEGERS, one_row_each
from longshore.exports.query_plans import explain, is_one_statement, nodes
from longshore.exports.row_security import SEARCH_PATH
from longshore.findings import Finding
from longshore.validation import in_json, suggestion

RELATION = """
select quote_ident(current_user) as role, c.relkind, c.relispopulated as populated,
       has_table_privilege(c.oid, 'select') as whole, has_any_column_privilege(c.oid, 'select') as readable
from pg_catalog.pg_class c
where c.oid = to_regclass($1) and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""

COLUMNS = """
select a.attname, t.typname
from pg_catalog.pg_attribute a
join pg_catalog.pg_type t on t.oid = a.atttypid
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
"""

# $2: the columns within which an index has to be unique.
HAS_UNIQUE_INDEX = """
select exists (
    select from pg_catalog.pg_index i
    where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indpred is null
      and not exists (
          select from generate_series(0, i.indnkeyatts - 1) position
          left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[position]
          where a.attname is null or a.attname <> all($2::text[])
      )
)
"""

# Settings that only a superuser can change, so that a session of the service cannot pin them.
SUPERUSER_SETTINGS = """
select name, setting from pg_catalog.pg_settings
where (name, setting) in (('zero_damaged_pages', 'on'), ('ignore_checksum_failure', 'on'))
"""

TIMES = frozenset({"timestamptz", "timestamp", "date"})
TYPES = {
    FieldType.DATE: TIMES,
    FieldType.NUMBER: INTEGERS | FLOATS | {"numeric"},
    FieldType.BOOLEAN: frozenset({"bool"}),
    FieldType.NESTED: frozenset({"json", "jsonb"}),
}
NO_TEXT = frozenset({"json", "jsonb", "bytea", "xml", "tsvector", "record"})

TOKENS = """
select t.id, t.indexes, t.hidden_columns, t.chain_id, c.name as client
from longshore.access_tokens t
join longshore.service_clients c on c.id = t.client_id
where t.revoked_at is null and coalesce(t.expires_at > now(), true)
order by t.created_at, t.id
"""


async def check(connection: Connection, catalog: Catalog) -> list[Finding]:
    """Return the findings of a catalog for this source. Only reads."""
    findings = []
    async with connection.transaction(readonly=True):
        for setting in await connection.fetch(SUPERUSER_SETTINGS):
            what = f"is {setting['setting']}, which changes what is read; a superuser must reset it for this role"
            findings.append(Finding(setting["name"], what))
        if await connection.fetchval("select current_setting('server_encoding')") == "SQL_ASCII":
            what = (
                "is SQL_ASCII, so text may be of any encoding: a run ends in ERROR where a value is not UTF-8; correct"
                " such values, or convert them by `sql`, as docs/databases.md shows"
            )
            findings.append(Finding("server_encoding", what, "warning"))
        for name, index in catalog.items():
            await connection.fetchval(SEARCH_PATH, index.search_path_setting)
            findings += await _check_index(connection, name, index)
    return findings


async def check_tokens(connection: Connection, catalog: Catalog) -> list[Finding]:
    """Return a finding for each index and column that a token names and the catalog lacks. Only reads.

    `connection`: to the service's database.
    """
    if await connection.fetchval("select to_regclass('longshore.access_tokens')") is None:
        return []
    findings = []
    columns = {f"{name}.{field}" for name, index in catalog.items() for field in index.fields}
    for row in await connection.fetch(TOKENS):
        whose = f"access token {row['id']} of {row['client']!r} in chain {row['chain_id']}"
        for column in sorted(set(row["hidden_columns"]) - columns):
            known = row["indexes"] is not None or any(column.startswith(f"{name}.") for name in catalog)
            closed = "the index is closed to it" if known else "every index is closed to it"
            what = f"{whose} hides this column, which the catalog has no more{suggestion(column, columns)}"
            findings.append(Finding(column, f"{what}; {closed} until another token takes its place"))
        for name in sorted(set(row["indexes"] or ()) - catalog.keys()):
            findings.append(Finding(name, f"{whose} may use this index, which the catalog has no more", "warning"))
    return findings


async def _check_index(connection: Connection, name: str, index: Index) -> list[Finding]:
    try:
        async with connection.transaction():  # so that an error here does not end the check of other indexes
            relation = await connection.fetchrow(RELATION, index.regclass)
    except asyncpg.PostgresError as error:
        return [Finding(name, f"{index.relation} cannot be looked up: {first_line(error)}")]
    if relation is None:
        return [Finding(name, f"there is no table or view {index.relation}")]
    if not relation["readable"]:
        return [Finding(name, f"{index.relation} may not be read; run {_grant(relation['role'], index)}")]
    if not relation["populated"]:
        what = f"has never been refreshed; run REFRESH MATERIALIZED VIEW {index.quoted_relation};"
        return [Finding(name, f"{index.relation} {what}")]
    columns = {row["attname"]: row["typname"] for row in await connection.fetch(COLUMNS, index.regclass)}
    findings = list(_check_keys(name, index, columns))
    if not relation["whole"]:
        what = (
            f"only some columns of {index.relation} may be read, so a large table is read by one connection and"
            f" incremental exports are refused; {_grant(relation['role'], index)} lifts both"
        )
        findings.append(Finding(name, what, "warning"))
    if index.chain in columns and all(finding.level == "warning" for finding in findings):
        findings += await _check_rows(connection, name, index, relation["relkind"] in (b"r", b"p", b"m"))
        if relation["relkind"] in (b"r", b"p"):  # others have no index, or one that `deletes` never needs
            findings += await _check_unique(connection, name, index)
    findings += await row_security_check.check(connection, name, index)
    wrong = {key: await _check_field(connection, index, key, field, columns) for key, field in index.fields.items()}
    findings += [Finding(f"{name}.{key}", what) for key, what in wrong.items() if what]
    if all(finding.level == "warning" for finding in findings):
        query = f"select {', '.join(map(index.expression, index.fields))} {index.from_clause}"
        if await is_one_statement(connection, await explain(connection, query, (0,), verbose=True)):
            what = (
                "is read by one connection in one statement, as each statement could see other rows: it has a foreign"
                " table, LIMIT, DISTINCT ON, a window function, TABLESAMPLE, or a function that is not IMMUTABLE"
            )
            findings.append(Finding(name, what, "warning"))
        findings += [Finding(name, what, "warning") for what in await search_path_check.differences(connection, index)]
    if index.totals is not None:
        amount = index.fields[index.totals.amount]
        if not amount.sql and columns.get(amount.column or index.totals.amount) in FLOATS:
            what = "`totals`: binary fractions do not add up exactly, so no control totals are taken"
            findings.append(Finding(name, what, "warning"))
    return findings


def _check_keys(name: str, index: Index, columns: dict[str, str]) -> Iterator[Finding]:
    for key, column, types in (
        ("chain", index.chain, INTEGERS),
        ("time", index.time, TIMES),
        *(("key", column, frozenset(columns.values())) for column in index.key_columns),
    ):
        if not column and key != "chain":
            continue
        if column not in columns:
            yield Finding(name, f"`{key}`: {_missing(index, column, columns)}")
        elif columns[column] not in types:
            yield Finding(name, f"`{key}`: the column {column} is {columns[column]}, expected {_listed(types)}")


async def _check_rows(connection: Connection, name: str, index: Index, is_table: bool) -> list[Finding]:
    """Return findings of the filter, and whether an index finds the rows of a chain."""
    try:
        async with connection.transaction():
            await connection.execute("set local enable_seqscan = off")
            plan = list(nodes(await explain(connection, f"select 1 {index.from_clause}", (0,))))
            await connection.execute("set local enable_seqscan = on")
    except asyncpg.PostgresError as error:
        return [
            Finding(
                name, f"`filter` does not work: {first_line(error)}{await search_path_check.hint(connection, index)}"
            )
        ]
    if any("Index Cond" in node for node in plan) or not any("Relation Name" in node for node in plan):
        return []
    if any(node["Node Type"] == "Foreign Scan" for node in plan):  # indexes of the foreign server are not visible
        return []
    keys = ", ".join(quoted_identifier(column) for column in dict.fromkeys((index.chain, index.time)) if column)
    advice = (
        f"run CREATE INDEX CONCURRENTLY ON {index.quoted_relation} ({keys});"
        if is_table
        else f"create one on the tables behind the view, on the columns that {keys} of the view come from"
    )
    return [Finding(name, f"no index serves the chain filter, so each export reads all chains; {advice}", "warning")]


async def _check_unique(connection: Connection, name: str, index: Index) -> list[Finding]:
    """Return a finding if the source may hold a key twice in a chain."""
    columns = list(dict.fromkeys([index.chain, *index.key_columns]))
    if not index.key or await connection.fetchval(HAS_UNIQUE_INDEX, index.regclass, columns):
        return []
    keys = ", ".join(map(quoted_identifier, columns))
    create = f"CREATE UNIQUE INDEX CONCURRENTLY ON {index.quoted_relation} ({keys});"
    what = (
        f"`key`: no unique index is over {', '.join(columns[:-1])} and {columns[-1]} or some of them, so a key may"
        f" occur twice, which `deletes` notices within the rows of a copy alone; run {create}"
    )
    return [Finding(name, what, "warning")]


async def _check_field(
    connection: Connection, index: Index, name: str, field: Field, columns: dict[str, str]
) -> str | None:
    if not field.sql and (field.column or name) not in columns:
        return _missing(index, field.column or name, columns)
    query = f"select {index.expression(name)} as value from {index.quoted_relation}"
    try:
        async with connection.transaction():
            await connection.prepare(one_row_each(index, [name]))
            attribute = (await connection.prepare(query)).get_attributes()[0]
            await explain(connection, query, ())  # checks privileges, which preparing does not
    except asyncpg.InsufficientPrivilegeError as error:
        return f"may not be read by this user: {first_line(error)}; GRANT SELECT on the column"
    except asyncpg.PostgresError as error:
        return f"`sql` does not work: {first_line(error)}{await search_path_check.hint(connection, index)}"
    pg_type, kind = attribute.type.name, attribute.type.kind
    if field.type in TYPES:
        fits = pg_type in TYPES[field.type]
        expected = _listed(TYPES[field.type])
    else:
        fits = kind not in ("array", "composite") and pg_type not in NO_TEXT
        expected = "a type that reads as words; for an array, `sql` with array_to_string makes one"
    if not fits:
        return f"is {pg_type} in the source, which is no {field.type.value}; expected {expected}"
    for inner in field.fields:
        try:
            async with connection.transaction():
                await connection.fetchval("select $1::text", inner)
        except asyncpg.UntranslatableCharacterError:
            return f"`fields` has {in_json(inner)}, of which the encoding of the source lacks a character: leave it out"
    return None


def _grant(role: str, index: Index) -> str:
    return f"GRANT SELECT ON {index.quoted_relation} TO {role};"


def _missing(index: Index, column: str, columns: dict[str, str]) -> str:
    return f"{index.relation} has no column {column}{suggestion(column, columns)}"


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))
