"""Row-level security: it keeps other chains' rows out of an export even if its query had no filter (promise 5).

The transaction that reads sets its chain, and PostgreSQL's policies compare it. They do not hold for superusers and
owners of tables, so the transaction reads as the role `longshore_export` if the source has one that may read the
relation or any column of it: an export that needs more ends in an error rather than without the policies. The schema
`loyalty` of the demo has policies, and an operator's own tables may have them (docs/access.md).
https://www.postgresql.org/docs/current/ddl-rowsecurity.html
"""

from longshore.database.connect import Connection
from longshore.database.export_role import READS
from longshore.exports.catalog import Index

RESTRICT = f"""
select set_config('longshore.chain', $1::bigint::text, true),
       (select set_config('role', rolname, true) from pg_roles where {READS.format("$2::text::regclass")})
"""

RESET_ROLE = "set local role to default"  # the one that the operator has set for the sessions of the service's role

SEARCH_PATH = "select set_config('search_path', $1, true)"

SETTINGS = """
select current_setting('longshore.chain', true) as chain, current_setting('role') as role,
       current_setting('search_path') as search_path
"""
SET_ALL = (
    "select set_config('longshore.chain', $1, true), set_config('role', $2, true), set_config('search_path', $3, true)"
)


async def restrict(connection: Connection, index: Index, chain: int) -> None:
    """Restrict the connection's transaction to the rows of one chain in an index, as far as the source has policies.

    Its search path is that of the index. A transaction that was restricted for another index is restricted anew.
    """
    await connection.execute(RESET_ROLE)
    await connection.fetchval(SEARCH_PATH, index.search_path_setting)
    await connection.fetchrow(RESTRICT, chain, index.regclass)


async def restrict_like(connection: Connection, first: Connection) -> None:
    """Give a transaction the chain, role and search path of another connection's transaction."""
    settings = await first.fetchrow(SETTINGS)
    assert settings is not None
    await connection.fetchrow(SET_ALL, settings["chain"] or "", settings["role"], settings["search_path"])
