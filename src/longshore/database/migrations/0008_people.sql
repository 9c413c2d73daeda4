-- People who sign in, what they may do, and who did what.

create table longshore.users (
    id bigint generated always as identity primary key,
    name text not null,
    -- argon2id, as the PHC string that names its own parameters.
    password text not null,
    -- Encrypted: a passcode is made from it, so unlike a password it has to be readable. Null: no passcode is asked for.
    totp_secret bytea,
    -- The newest time step that a passcode was taken for; none is taken for it or an older one again.
    totp_step bigint not null default 0,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

create unique index users_by_name on longshore.users (lower(name));

create table longshore.user_levels (
    user_id bigint not null references longshore.users on delete cascade,
    chain_id bigint not null,
    level text not null check (level in ('read', 'write', 'admin')),
    enabled boolean not null default true,
    primary key (user_id, chain_id)
);

create index users_of_chain on longshore.user_levels (chain_id, user_id);

create table longshore.sessions (
    id uuid primary key default gen_random_uuid(),
    user_id bigint not null references longshore.users on delete cascade,
    key_sha256 bytea not null unique check (octet_length(key_sha256) = 32),
    address text not null,
    created_at timestamptz not null default now(),
    -- Written at most once a minute.
    used_at timestamptz not null default now()
);

create index sessions_of_user on longshore.sessions (user_id);

-- The password was right; the passcode is still to come.
create table longshore.login_attempts (
    id uuid primary key default gen_random_uuid(),
    user_id bigint not null references longshore.users on delete cascade,
    created_at timestamptz not null default now(),
    passcodes integer not null default 0
);

-- Logins that failed, by account and by address; both are hashed, as people type passwords into the wrong field.
create table longshore.login_failures (
    key bytea primary key,
    failures integer not null,
    at timestamptz not null default now(),
    -- Until when no further try is looked at.
    until timestamptz not null
);

-- What the API processes have counted together. A crash may forget it: it is worth a minute at most.
create unlogged table longshore.rate_counts (
    key text primary key,
    hits bigint not null,
    expires_at timestamptz not null
);

create index rate_counts_expired on longshore.rate_counts (expires_at);

create table longshore.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    chain_id bigint not null,
    -- token, user, command (the command line), or address (whoever has a signed address)
    actor_kind text not null check (actor_kind in ('token', 'user', 'command', 'address')),
    actor text not null,
    action text not null,
    object text not null,
    address text not null,
    request_id text not null,
    details json
);

create index audit_of_chain on longshore.audit (chain_id, id desc);
create index audit_of_chain_by_time on longshore.audit (chain_id, at);

-- A trigger, not a missing right: it holds for the embedded database's superuser too, and in every replication role.
create function longshore.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is only ever appended to' using errcode = 'insufficient_privilege';
end
$$;

create trigger append_only before update or delete or truncate on longshore.audit
    for each statement execute function longshore.refuse_change();
alter table longshore.audit enable always trigger append_only;
