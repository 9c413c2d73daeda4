-- What the service knows: tasks, their runs, their log, who may ask, and its own keys.

create table longshore.tasks (
    id bigint generated always as identity primary key,
    chain_id bigint not null,
    description text not null,
    action text not null,
    trigger json not null,
    target json not null,
    debug text not null,
    state text not null default 'READY' check (state in ('READY', 'INPROGRESS', 'DONE', 'ERROR')),
    result text not null default '',
    -- The newest attempt, sent out or running. Every write of a run names its attempt and is refused when a newer
    -- one exists, so a worker that was thought dead can change nothing any more.
    attempt integer not null default 1,
    -- Null: the message "run this attempt" is on its way and nobody has begun it.
    attempt_began_at timestamptz,
    run integer not null default 0,
    -- Null: no message is owed. Otherwise the clock sends it when this time has come.
    due_at timestamptz,
    revision bigint not null default 1,
    log_length integer not null default 0,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    last_run_at timestamptz
);

-- The list of a chain, newest first, whole or of one state.
create index tasks_of_chain on longshore.tasks (chain_id, id desc);
create index tasks_of_chain_by_state on longshore.tasks (chain_id, state, id desc);
-- The clock's: what is due next, and what runs.
create index tasks_due on longshore.tasks (due_at) where due_at is not null;
create index tasks_running on longshore.tasks (id) where state = 'INPROGRESS';
create index tasks_sent on longshore.tasks (id) where attempt_began_at is null and due_at is null;

create table longshore.task_logs (
    task_id bigint not null references longshore.tasks on delete cascade,
    seq integer not null,
    at timestamptz not null,
    msg text not null,
    total bigint,
    success bigint,
    skips bigint,
    errors bigint,
    primary key (task_id, seq)
);

create table longshore.runs (
    task_id bigint not null references longshore.tasks on delete cascade,
    run integer not null,
    state text not null default 'INPROGRESS' check (state in ('INPROGRESS', 'DONE', 'ERROR')),
    first_attempt integer not null,
    attempt integer not null,
    began_at timestamptz not null,
    ended_at timestamptz,
    -- Progress, rewritten at most once a second; the final figures once the run is done.
    rows bigint not null default 0,
    bytes bigint not null default 0,
    rows_expected bigint,
    attempt_began_at timestamptz not null,
    progress_at timestamptz not null,
    -- The result, once the run is done.
    snapshot_at timestamptz,
    result text,
    location text unique,
    sha256 bytea,
    primary key (task_id, run)
) with (fillfactor = 70);

-- Everybody who waits for a task is told which one changed, and to what revision.
create function longshore.tell_of_task() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', new.id || ' ' || new.revision);
    return null;
end
$$;

create trigger tell_of_task after update of revision on longshore.tasks
    for each row execute function longshore.tell_of_task();

create table longshore.access_tokens (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    name text not null,
    level text not null check (level in ('read', 'write', 'admin')),
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create table longshore.keys (
    name text primary key,
    value bytea not null
);
