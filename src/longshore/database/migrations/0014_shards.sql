-- Shards: what is left to other workers of an export that is too large for one.

create table longshore.shards (
    task_id bigint not null references longshore.tasks on delete cascade,
    attempt integer not null,
    number integer not null,
    state text not null default 'WAITING' check (state in ('WAITING', 'RUNNING', 'DONE', 'FAILED')),
    -- What is to be done, as JSON.
    work text not null,
    -- How often it was begun. Only the newest trial may write, as with attempts.
    trial integer not null default 0,
    -- Who has it: a name of that trial's own, so that a statement may be sent twice.
    holder uuid,
    failures integer not null default 0,
    -- The last sign of life.
    seen_at timestamptz not null default now(),
    rows bigint not null default 0,
    bytes bigint not null default 0,
    -- What the shard left for whoever puts the result together, as JSON.
    outcome text,
    -- Why it failed the last time, and whether another attempt of the export may do better.
    reason text,
    passing boolean not null default false,
    primary key (task_id, attempt, number)
);
