-- Bounds and fairness: credentials that end everywhere, who waited longest goes first, a share for each webhook.

-- The level that a credential has for a chain now; null where it has none any more. One place for requests that stay
-- open and for download addresses. `session`: null where none is known. `idle` and `life` are seconds of a session.
create function longshore.level_of(kind text, id text, session uuid, chain bigint, idle float8, life float8)
returns text language sql stable as $$
select case $1
    when 'token' then (
        select t.level
        from longshore.access_tokens t
        left join longshore.service_clients c on c.id = t.client_id
        where t.id = case $1 when 'token' then $2::uuid end
          and t.revoked_at is null and (t.expires_at is null or t.expires_at > now()) and coalesce(c.enabled, true)
          and (t.chain_id = $4 or t.more_chains @> array[$4])
    )
    when 'user' then (
        select l.level
        from longshore.user_levels l
        join longshore.users u on u.id = l.user_id
        where l.user_id = case $1 when 'user' then $2::bigint end
          and l.chain_id = $4 and l.enabled and u.disabled_at is null
          and ($3 is null or exists (
              select from longshore.sessions s
              where s.id = $3 and s.user_id = u.id
                and s.used_at > now() - $5 * interval '1 second' and s.created_at > now() - $6 * interval '1 second'
          ))
    )
end
$$;

alter table longshore.links
    -- The session that asked for the address, where it was one. Signing out deletes it.
    add column session_id uuid,
    -- The level that whoever asked has to have still.
    add column level text not null default 'read';

-- Built concurrently, these would wait for every transaction that is open, an export's of hours too. They hold few rows,
-- so writers wait for one reading of the table alone.
-- squawk-ignore require-concurrent-index-creation
create index tasks_parked_longest on longshore.tasks (chain_id, priority desc, waits_since, id) where parked;

-- squawk-ignore require-concurrent-index-creation
create index deliveries_due_of_webhook on longshore.deliveries (webhook_id, due_at) where due_at is not null;
