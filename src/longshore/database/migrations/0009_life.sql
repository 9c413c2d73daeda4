-- Schedules, slots, and the ends of tasks and results.

alter table longshore.tasks
    -- The moment that the newest run was planned for; what a schedule gives after it is due next.
    add column planned_at timestamptz not null default now(),
    -- A task whose time has come, and whose chain runs as many as it may. No message is owed yet.
    add column parked boolean not null default false,
    add column priority smallint not null default 0;

create index tasks_parked on longshore.tasks (chain_id, priority desc, id) where parked;

drop index longshore.tasks_sent;
create index tasks_sent on longshore.tasks (id) where attempt_began_at is null and due_at is null and not parked;

-- What takes a slot of its chain: a run, or a message that will begin one.
create index tasks_active on longshore.tasks (chain_id)
    where not parked and (state = 'INPROGRESS' or (attempt_began_at is null and due_at is null));

alter table longshore.runs
    -- When the result may be removed; null once it was.
    add column expires_at timestamptz;

create index runs_expiring on longshore.runs (expires_at) where expires_at is not null;

-- What the service looks after by tasks of its own.
create unique index tasks_of_the_service on longshore.tasks (action) where chain_id = 0;

create index tasks_ended on longshore.tasks (modified_at) where state in ('DONE', 'ERROR');
