"""The check of the row-level security that exports of an index meet, and of the rights of its role."""

from longshore.database.connect import Connection
from longshore.database.export_role import READS
from longshore.exports.catalog import Index
from longshore.exports.row_security import RESET_ROLE
from longshore.findings import Finding

# The columns of a relation that the role of exports may read; no row if exports read as the service's own role.
EXPORT_ROLE = f"""
select has_table_privilege(oid, $1::text::regclass, 'select') as whole,
       array(
           select attname from pg_catalog.pg_attribute
           where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
             and not has_column_privilege(r.oid, attrelid, attnum, 'select')
       ) as missing
from pg_catalog.pg_roles r
where {READS.format("$1::text::regclass")}
"""

# Policies that hold for the role of the session, and not for that of exports.
LOST_POLICIES = """
select string_agg(quote_ident(p.polname), ', ' order by p.polname)
from pg_catalog.pg_policy p
where p.polrelid = $1::text::regclass and row_security_active(p.polrelid)
  and exists (select from unnest(p.polroles) role where role <> 0 and pg_has_role(role, 'usage'))
  and not exists (
      select from unnest(p.polroles) role where role = 0 or pg_has_role('longshore_export', role, 'usage')
  )
"""

EXPORT_ROLE_SETTING = "set local role longshore_export"
OID = "select $1::text::regclass::oid"

# The role, where row-level security is on for it and no permissive policy for SELECT lets it read a row.
# https://www.postgresql.org/docs/current/ddl-rowsecurity.html
SEES_NO_ROW = """
select quote_ident(current_user)
where row_security_active($1::oid) and not exists (
    select from pg_catalog.pg_policy p
    where p.polrelid = $1 and p.polpermissive and p.polcmd in ('r', '*')
      and exists (select from unnest(p.polroles) role where role = 0 or pg_has_role(role, 'usage'))
)
"""


async def check(connection: Connection, name: str, index: Index) -> list[Finding]:
    """Return findings if row-level security empties exports of an index, or its role may not read all they need."""
    role = await connection.fetchrow(EXPORT_ROLE, index.regclass)
    findings = await _check_hidden(connection, name, index, as_export_role=role is not None)
    if role is None:
        return findings
    if (policies := await connection.fetchval(LOST_POLICIES, index.regclass)) is not None:
        what = (
            f"exports read {index.relation} as longshore_export, for which these policies of this role do not hold:"
            f" {policies}; run ALTER POLICY … ON {index.quoted_relation} TO longshore_export; for each"
        )
        findings.append(Finding(name, what, "warning"))
    if role["whole"]:
        return findings
    missing = f" (not {', '.join(role['missing'])})" if role["missing"] else ""
    what = (
        f"longshore_export may read only some columns of {index.relation}{missing}: exports that read others, and"
        f" incremental ones, end in an error; run GRANT SELECT ON {index.quoted_relation} TO longshore_export;"
    )
    return [*findings, Finding(name, what, "warning")]


async def _check_hidden(connection: Connection, name: str, index: Index, *, as_export_role: bool) -> list[Finding]:
    """Return a finding if row-level security hides all rows from the role that exports read as."""
    relation = await connection.fetchval(OID, index.regclass)  # the role may lack USAGE of the schema
    if as_export_role:
        await connection.execute(EXPORT_ROLE_SETTING)
    role = await connection.fetchval(SEES_NO_ROW, relation)
    await connection.execute(RESET_ROLE)
    if role is None:
        return []
    what = (
        f"row-level security of {index.relation} is on for {role} and no policy lets it read, so all exports are empty;"
        f" run CREATE POLICY … ON {index.quoted_relation} FOR SELECT TO {role} USING (…); (docs/access.md)"
    )
    return [Finding(name, what, "warning")]
