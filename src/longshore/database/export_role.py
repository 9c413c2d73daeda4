"""The role that exports read as, so that PostgreSQL's row-level security applies to them (promise 5)."""

from longshore.database.connect import Connection

ROLE = "longshore_export"

# Whether exports of a relation read as the role: it exists, the service's role is a member, and it may read a column.
READS = f"rolname = '{ROLE}' and pg_has_role(oid, 'member') and has_any_column_privilege(oid, {{}}, 'select')"

# The initial migration creates the role if it may. After an administrator creates it, `longshore migrate` grants.
GRANTS = f"""
do $$
begin
    grant usage on schema longshore to {ROLE};
    grant select on longshore.audit to {ROLE};
exception
    when undefined_object or insufficient_privilege then null;
end
$$
"""

STATE = f"""
select r.oid is not null as exists,
       coalesce(pg_has_role(r.oid, 'member'), false) as member,
       coalesce(has_schema_privilege(r.oid, 'longshore', 'usage')
                and has_table_privilege(r.oid, 'longshore.audit', 'select'), false) as granted,
       current_user as of_service
from (select 1) one
left join pg_catalog.pg_roles r on r.rolname = '{ROLE}'
"""


async def why_unused(connection: Connection) -> str | None:
    """Return why exports of the service's database do not read as the role, and the remedy; None if they do."""
    row = await connection.fetchrow(STATE)
    assert row is not None
    after = "then run `longshore migrate` again"
    if not row["exists"]:
        return (
            f"the role {ROLE} does not exist and this role may not create it, so row-level security does not apply to "
            f"exports; as an administrator: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO {row['of_service']}; {after}"
        )
    if not row["member"]:
        return (
            f"the service's role is no member of {ROLE}, so row-level security does not apply to exports; "
            f"as an administrator: GRANT {ROLE} TO {row['of_service']}"
        )
    if not row["granted"]:
        return f"the role {ROLE} may not read longshore.audit; run `longshore migrate` as the owner of that table"
    return None
