-- Service clients own tokens; tokens have a scope, an end and a last use; download addresses can be taken back.

create table longshore.service_clients (
    id bigint generated always as identity primary key,
    chain_id bigint not null,
    name text not null,
    contact text not null default '',
    enabled boolean not null default true,
    created_at timestamptz not null default now()
);

create unique index service_clients_by_name on longshore.service_clients (chain_id, lower(name));

alter table longshore.access_tokens
    -- Null: made by a version that knew no clients.
    add client_id bigint references longshore.service_clients on delete cascade,
    -- Chains beside the client's own.
    add more_chains bigint[] not null default '{}',
    -- Null: every index. Of no client's choice, but of the catalog's, so names may be here that it has no more.
    add indexes text[],
    -- Such as users.phone_number.
    add hidden_columns text[] not null default '{}',
    add expires_at timestamptz,
    -- Written at most once a minute.
    add used_at timestamptz;

-- A token from before had a name of its own; now a client has it.
insert into longshore.service_clients (chain_id, name)
select distinct on (chain_id, lower(coalesce(nullif(name, ''), 'unnamed'))) chain_id, coalesce(nullif(name, ''), 'unnamed')
from longshore.access_tokens;

update longshore.access_tokens t
set client_id = c.id
from longshore.service_clients c
where c.chain_id = t.chain_id and lower(c.name) = lower(coalesce(nullif(t.name, ''), 'unnamed'));

-- A version that knows no clients still writes a name; this one writes none.
alter table longshore.access_tokens alter name set default '';

create index access_tokens_of_client on longshore.access_tokens (client_id);
create index access_tokens_of_chain on longshore.access_tokens (chain_id, created_at, id);
create index access_tokens_by_more_chains on longshore.access_tokens using gin (more_chains);

-- Download addresses that were given out.
create table longshore.links (
    id uuid primary key default gen_random_uuid(),
    task_id bigint not null references longshore.tasks on delete cascade,
    run integer not null,
    -- Who asked for it, as in the audit log. Revoking a token ends its addresses.
    actor_kind text not null,
    actor text not null,
    token_id uuid references longshore.access_tokens on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Null: as many as there are.
    most_uses integer check (most_uses > 0),
    uses integer not null default 0,
    used_at timestamptz,
    revoked_at timestamptz
);

create index links_of_task on longshore.links (task_id, created_at desc, id);
create index links_by_expiry on longshore.links (expires_at);

-- The role that exports read as, where it is there and may read the relation: row-level security does not hold for a
-- table's owner or a superuser. Who may not create roles goes without.
do $$
begin
    create role longshore_export nologin;
exception
    when duplicate_object or unique_violation or insufficient_privilege then null;
end
$$;

do $$
begin
    grant longshore_export to current_user;
    grant usage on schema longshore to longshore_export;
    grant select on longshore.audit to longshore_export;
exception
    when undefined_object or insufficient_privilege then null;
end
$$;

-- It is exports that are held to a chain; the service appends for all of them, be it as the owner or as a role of its own.
alter table longshore.audit enable row level security;
create policy of_chain on longshore.audit
    using (
        current_user <> 'longshore_export'
        or chain_id = (select nullif(current_setting('longshore.chain', true), '')::bigint)
    )
    with check (true);
