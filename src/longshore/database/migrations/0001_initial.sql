-- The service's own schema: tasks, segments, webhooks, credentials, the audit log. One file, so that each table stands
-- here as it is. PgQueuer makes the tables of the queue.

-- Tasks

-- Return whether PostgreSQL can decode a target. It raises an error for a JSON text that escapes U+0000 or a lone
-- surrogate, and one such task would fail a statement over all tasks of a chain:
-- https://www.postgresql.org/docs/current/datatype-json.html
create function longshore.is_decodable(target json) returns boolean language sql immutable as $$
select target::text !~* '\\u(0000|d[89a-f])'
$$;

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
    -- Why the task ended in ERROR. Meaningless in other states.
    reason text,
    -- The newest attempt, sent or running. Every write of a run names its attempt and changes nothing once a newer
    -- attempt exists, so a worker that was taken for dead can change nothing.
    attempt integer not null default 1,
    -- Null: the message "run this attempt" is on its way and no worker has begun it.
    attempt_began_at timestamptz,
    run integer not null default 0,
    -- When the scheduler sends the next message; null where none is to be sent.
    due_at timestamptz,
    revision bigint not null default 1,
    log_length integer not null default 0,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    last_run_at timestamptz,
    -- Where the next increment begins, as JSON that only the action reads, but for `keys`, the key list that belongs to
    -- it. Null before the first increment.
    watermark text,
    -- The newest run when all rows were last requested: neither it nor an older one moves the watermark from then on.
    full_after_run integer not null default 0,
    -- The schedule computes its next time from here: the time of its newest run that has begun; before the first run, a
    -- moment before its first time.
    schedule_cursor timestamptz not null default now(),
    -- End of the interval of the schedule's newest run that has begun: the interval of the next one starts there, also
    -- under a changed trigger. Null before the first.
    covered_until timestamptz,
    -- Data interval of the newest run, or of the one that is queued, and what asked for that run. Meaningless while
    -- `due_at` is set. Null start: no bound.
    interval_start timestamptz,
    interval_end timestamptz not null default date_trunc('second', now()),
    origin text not null default 'schedule' check (origin in ('schedule', 'backfill', 'execute')),
    -- The backfill whose runs are to begin; null: none is. While the newest run is in progress, it may be the backfill
    -- of that run, although a backfill that was created meanwhile is next, or none.
    backfill integer,
    -- When the schedule is due next, while a run of a backfill is queued.
    next_due_at timestamptz,
    -- Due, and waiting for a free slot of its chain. Its message is not sent yet.
    parked boolean not null default false,
    priority smallint not null default 0,
    -- Trace of the newest run, a W3C `traceparent`: that of the request that asked for the run. Null where the request
    -- was not traced, and for later runs of a schedule, which begin traces of their own.
    traceparent text,
    -- Trace of the schedule's first run; traces of later runs link to it.
    follows text,
    -- When the newest attempt was due. Meaningless while `due_at` is set.
    waits_since timestamptz not null default now(),
    -- Only a changed trigger gives the task further times: its schedule was cancelled, or cannot be computed.
    schedule_ended boolean not null default false,
    -- The schedule begins no run until it is resumed; `due_at` stays.
    paused boolean not null default false,
    -- When the schedule was last resumed, and the `catch_up` of the times missed before that; null: the trigger's.
    resumed_at timestamptz,
    resume_catch_up text,
    -- The newest run has its result, which is on its way to the destinations. It holds no slot, and no attempt is under
    -- way: the number of the attempt has moved on.
    delivering boolean not null default false,
    -- All that runs of the task have read, merged. A credential that may not see a part of it does not see the log.
    reads jsonb not null default '[]',
    -- Credentials, such as 'user 7' or 'token 0b9f…'; null: the service itself.
    created_by text,
    -- The credential that last set target or trigger. Runs keep within its limits.
    defined_by text,
    -- The credential that asked for the next run; null where the schedule did.
    asked_by text,
    -- The name of the table that the results are shared as, in lower case: names of tables ignore case.
    shared_as text collate "C" generated always as (
        case when action = 'export' and longshore.is_decodable(target)
            then lower((target ->> 'share_as') collate "C")
        end
    ) stored
);

-- Pages of a chain's tasks, newest first, of all states or of one.
create index tasks_of_chain on longshore.tasks (chain_id, id desc);
create index tasks_of_chain_by_state on longshore.tasks (chain_id, state, id desc);
create index tasks_of_chain_by_last_run on longshore.tasks (chain_id, last_run_at desc nulls last, id desc);
create index tasks_due on longshore.tasks (due_at) where due_at is not null and not paused;
create index tasks_backfilling on longshore.tasks (id) where backfill is not null;
create index tasks_due_next on longshore.tasks (next_due_at) where next_due_at is not null;
create index tasks_running on longshore.tasks (id) where state = 'INPROGRESS';
create index tasks_sent on longshore.tasks (id) where attempt_began_at is null and due_at is null and not parked;
create index tasks_parked on longshore.tasks (chain_id, priority desc, waits_since, id) where parked;
-- Tasks that hold a slot of their chain: a run, or a message that begins one.
create index tasks_active on longshore.tasks (chain_id)
    where not parked and ((state = 'INPROGRESS' and not delivering) or (attempt_began_at is null and due_at is null));
create index tasks_ended on longshore.tasks (modified_at) where state in ('DONE', 'ERROR');
create unique index tasks_shared on longshore.tasks (chain_id, shared_as) where shared_as is not null;
-- The service's own tasks, of chain 0: one for each action.
create unique index tasks_of_the_service on longshore.tasks (action) where chain_id = 0;

-- Runs of a schedule's past times that a client asked for. The times are fixed when the backfill is created.
create table longshore.backfills (
    task_id bigint not null references longshore.tasks on delete cascade,
    -- From 1 for each task.
    backfill integer not null,
    -- The range that was asked for.
    range_start timestamptz not null,
    range_end timestamptz not null,
    -- The times in order, each the end of an interval, and the starts of these intervals.
    times timestamptz[] not null,
    starts timestamptz[] not null,
    -- Runs that have begun.
    begun integer not null default 0,
    created_at timestamptz not null default now(),
    created_by text,
    -- When it was ended before all its runs had begun.
    ended_at timestamptz,
    primary key (task_id, backfill)
);

-- The constant parts of tasks by which people look for them, kept by triggers. The rows are narrow, so a search reads all
-- of a chain's in milliseconds, in any script; an index of trigrams would need an extension that may not be there.
create table longshore.task_texts (
    chain_id bigint not null,
    task_id bigint not null,
    -- Description, indexes and result, in lower case.
    text text not null,
    indexes text[] not null,
    action text not null,
    created_at timestamptz not null,
    primary key (chain_id, task_id)
);

-- Return the export indexes of a target; none where PostgreSQL cannot decode it.
create function longshore.indexes_of(target json) returns text[] language sql immutable as $$
select case
    when not longshore.is_decodable(target) then '{}'
    when json_typeof(target -> 'export_indexes') = 'array' then array(
        select name from json_array_elements_text(target -> 'export_indexes') name
    )
    when json_typeof(target -> 'export_index') = 'string' then array[target ->> 'export_index']
    else '{}'
end
$$;

create function longshore.text_of(description text, target json, result text) returns text language sql immutable as $$
select lower(concat_ws(E'\n', description, array_to_string(longshore.indexes_of(target), E'\n'), result))
$$;

create function longshore.add_task_texts() returns trigger language plpgsql as $$
begin
    insert into longshore.task_texts (chain_id, task_id, text, indexes, action, created_at)
    select chain_id, id, longshore.text_of(description, target, result), longshore.indexes_of(target), action, created_at
    from created;
    return null;
end
$$;

create trigger add_task_texts after insert on longshore.tasks
    referencing new table as created for each statement execute function longshore.add_task_texts();

create function longshore.change_task_text() returns trigger language plpgsql as $$
begin
    update longshore.task_texts
    set text = longshore.text_of(new.description, new.target, new.result), indexes = longshore.indexes_of(new.target),
        action = new.action
    where chain_id = new.chain_id and task_id = new.id;
    return null;
end
$$;

create trigger change_task_text after update of description, target, result on longshore.tasks
    for each row
    when (old.description <> new.description or old.target::text <> new.target::text or old.result <> new.result)
    execute function longshore.change_task_text();

create function longshore.remove_task_texts() returns trigger language plpgsql as $$
begin
    delete from longshore.task_texts x using removed where x.chain_id = removed.chain_id and x.task_id = removed.id;
    return null;
end
$$;

create trigger remove_task_texts after delete on longshore.tasks
    referencing old table as removed for each statement execute function longshore.remove_task_texts();

-- Values of a target's fields that are shown as null, sealed by the vault, bound to chain and task.
create table longshore.task_secrets (
    task_id bigint primary key references longshore.tasks on delete cascade,
    sealed bytea not null
);

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
    -- Without a cascade and checked at commit: `count_removed_tasks` deletes the runs of deleted tasks after it has
    -- read how many bytes of results they held.
    task_id bigint not null references longshore.tasks deferrable initially deferred,
    run integer not null,
    state text not null default 'INPROGRESS' check (state in ('INPROGRESS', 'DONE', 'ERROR')),
    first_attempt integer not null,
    attempt integer not null,
    -- Why the run ended in ERROR. Meaningless in other states.
    reason text,
    -- The time of the trigger that the run is for; null: the run was asked for by `execute`.
    due_at timestamptz,
    -- The backfill that the run belongs to.
    backfill integer,
    -- Data interval, in whole seconds. Null start: no bound.
    interval_start timestamptz,
    interval_end timestamptz not null default date_trunc('second', now()),
    began_at timestamptz not null,
    ended_at timestamptz,
    -- Progress, written at most once a second; the final figures once the run is done.
    rows bigint not null default 0,
    bytes bigint not null default 0,
    rows_expected bigint,
    -- Whether `rows_expected` was counted; else it is the planner's estimate.
    rows_expected_exact boolean not null default false,
    attempt_began_at timestamptz not null,
    progress_at timestamptz not null,
    -- The worker that has the newest attempt, by a name of its own. A worker that lost the answer to its claim may
    -- claim the attempt again.
    claim_id uuid,
    -- Attempts that failed or were lost. An attempt that a worker gave up as it shut down does not count.
    failures integer not null default 0,
    -- The stored segment as it was when the run began, so that all attempts of a run read the same rows.
    segment json,
    -- Array of {"index", "level", "columns"}. Null: the run has read nothing yet.
    reads jsonb,
    -- The result, once the run is done.
    snapshot_at timestamptz,
    result text,
    -- Collated so that the results below a folder are a range of the index.
    location text collate "C" unique,
    sha256 bytea,
    -- Byte for byte the file beside the result.
    manifest text,
    -- Of the manifest: a detached JWS.
    signature text,
    -- The parts of the manifest that a list of runs shows, as the manifest of many files may have megabytes: `index`,
    -- `fields`, `segment`, `full`, and the number of `files` where they are many.
    summary json,
    -- Values that the catalog's `on_odd` has exported as NULL.
    skips bigint not null default 0,
    -- PostgreSQL types of the columns of the result, by name, for the tables of destinations.
    column_types json,
    -- The schema of the result as a table, as JSON text of Delta Lake; null where the result cannot be read as one.
    table_schema text,
    -- Statistics of the columns of a result of one file that is shared as a table, as JSON text of Delta Lake.
    table_stats text,
    -- Watermarks of an increment.
    watermark_from text,
    watermark_to text,
    -- False: the task's watermark waits for the client's acknowledgement. Null: none is needed.
    acknowledged boolean,
    -- Of the key list that belongs to `watermark_to`, while nothing but this run needs it: it waits for its
    -- acknowledgement, and is the first of those that do with the same watermark.
    key_list_bytes bigint not null default 0,
    -- When the result may be removed; null once it was.
    expires_at timestamptz,
    primary key (task_id, run)
) with (fillfactor = 70);

create index runs_unacknowledged on longshore.runs (task_id, run) where not acknowledged;
create index runs_of_backfill on longshore.runs (task_id, backfill) where backfill is not null;
create index runs_of_days on longshore.runs (task_id, began_at);
create index runs_by_interval on longshore.runs (task_id, interval_end, run) include (state, ended_at);
create index runs_expiring on longshore.runs (expires_at) where expires_at is not null;

-- The files of a result of many, so that a page of them, or one, is found without the manifest. They go with the result.
create table longshore.run_files (
    task_id bigint not null references longshore.tasks on delete cascade,
    run integer not null,
    -- From 1, in the order of the manifest.
    number integer not null,
    -- Relative to the folder of the result.
    path text collate "C" not null,
    index text not null,
    partition json not null,
    rows bigint not null,
    bytes bigint not null,
    sha256 bytea not null,
    -- Statistics of its columns, as `runs.table_stats`.
    table_stats text,
    primary key (task_id, run, number),
    unique (task_id, run, path)
);

-- Deliveries of results to destinations. One that a client asks for again is a new row.
create table longshore.run_deliveries (
    task_id bigint not null,
    run integer not null,
    -- From 1 for each run.
    number integer not null,
    -- 0: the run's own deliveries, which it waits for; then one for each request of a client.
    round integer not null default 0,
    chain_id bigint not null,
    destination text not null,
    -- Of the name when the delivery was asked for: another destination may have it once that one is deleted. Null: there
    -- was none.
    destination_id uuid,
    -- The path of its files, with {name} in place of their names, or the table. One delivery at a time to each place.
    place text not null,
    -- The entry of `deliver` in the target that the delivery follows.
    entry json not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed', 'cancelled')),
    -- The newest attempt, sent or running; 0: none yet. Every write of an attempt names it, as with tasks.
    attempt integer not null default 0,
    -- When the next attempt is due; null: its message is sent, or the delivery has ended.
    due_at timestamptz default now(),
    -- Null: no worker has begun the newest attempt.
    began_at timestamptz,
    -- When the first attempt began; null: none has. The time for which a delivery is tried runs from here.
    first_began_at timestamptz,
    -- Once the delivery has failed or was cancelled: when a worker next tries to remove what its attempts have left
    -- unfinished at the destination. Null: nothing is left, or it was given up.
    discard_at timestamptz,
    -- The worker that has the newest attempt, by a name of its own, so that its claim may be sent twice.
    claim_id uuid,
    -- Attempts whose worker was lost.
    lost_workers integer not null default 0,
    -- Why the last attempt failed.
    error text,
    -- Where the result lies, and what was read back there.
    address text,
    evidence json,
    created_at timestamptz not null default now(),
    -- The credential that asked for it; null: it belongs to the run.
    created_by text,
    ended_at timestamptz,
    primary key (task_id, run, number),
    foreign key (task_id, run) references longshore.runs on delete cascade
);

create index run_deliveries_due on longshore.run_deliveries (due_at) where due_at is not null;
create index run_deliveries_discard on longshore.run_deliveries (discard_at)
    where discard_at is not null and state in ('failed', 'cancelled');
create index run_deliveries_pending on longshore.run_deliveries (chain_id, destination, place) where state = 'pending';
create index run_deliveries_pending_of_task on longshore.run_deliveries (task_id) where state = 'pending';
create index run_deliveries_of_destination on longshore.run_deliveries (chain_id, destination, created_at);
create index run_deliveries_of_place on longshore.run_deliveries (task_id, destination, place, run);

-- Parts of an export that other workers may take.
create table longshore.shards (
    task_id bigint not null references longshore.tasks on delete cascade,
    attempt integer not null,
    number integer not null,
    state text not null default 'WAITING' check (state in ('WAITING', 'RUNNING', 'DONE', 'FAILED')),
    -- The work, as JSON.
    work text not null,
    -- How often the shard was begun. Only the newest trial may write, as with attempts.
    trial integer not null default 0,
    -- The worker that has the newest trial, by a name of its own, so that its claim may be sent twice.
    claim_id uuid,
    failures integer not null default 0,
    -- The last heartbeat.
    seen_at timestamptz not null default now(),
    rows bigint not null default 0,
    bytes bigint not null default 0,
    -- JSON for the worker that assembles the result.
    outcome text,
    -- Why the last trial failed, and whether the error was transient.
    reason text,
    transient boolean not null default false,
    primary key (task_id, attempt, number)
);

-- Waiters listen to this channel for `ID REVISION`.
create function longshore.notify_task() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', new.id || ' ' || new.revision);
    return null;
end
$$;

create trigger notify_task after update of revision on longshore.tasks
    for each row execute function longshore.notify_task();

create function longshore.notify_deleted_task() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', old.id || ' ' || old.revision + 1);
    return null;
end
$$;

create trigger notify_deleted_task after delete on longshore.tasks
    for each row execute function longshore.notify_deleted_task();

-- Progress makes no new revision.
create function longshore.notify_progress() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', new.task_id::text);
    return null;
end
$$;

create trigger notify_progress after update of rows, bytes, rows_expected on longshore.runs
    for each row when (old.rows is distinct from new.rows or old.bytes is distinct from new.bytes)
    execute function longshore.notify_progress();

-- Stored segments: filters that tasks name by id instead of carrying them.
create table longshore.segments (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    name text not null,
    -- Never changes, as tasks of that export index rely on it.
    index text not null,
    segment json not null,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    created_by text
);

create index segments_of_chain on longshore.segments (chain_id, created_at desc, id);

-- Fields behind the fingerprints that tasks pin, so that a run can say what has changed since.
create table longshore.schemas (
    chain_id bigint not null,
    fingerprint text not null,
    -- Names and types, in order.
    fields json not null,
    primary key (chain_id, fingerprint)
);

-- Answers to requests with an `Idempotency-Key`.
create table longshore.idempotency_keys (
    chain_id bigint not null,
    key text not null,
    body_sha256 bytea not null,
    task_id bigint,
    answer bytea,
    created_at timestamptz not null default now(),
    primary key (chain_id, key)
);

create index idempotency_keys_by_age on longshore.idempotency_keys (created_at);

-- Quotas: what each chain has stored, kept up to date by triggers, so that a check reads one row. A transaction that
-- creates a task holds the row of its chain until it ends, so two of them cannot both take the last place.
--
-- Locks are taken in one order: rows of `tasks`, rows of `runs`, then a row of `chain_usage`. So a statement that
-- deletes many tasks changes `chain_usage` once, after its last task. That also makes its cost linear: each change
-- leaves a dead version of the row, which the next change in the same transaction has to pass.

create table longshore.chain_usage (
    chain_id bigint primary key,
    tasks bigint not null default 0,
    -- Of the texts that clients send: description, trigger, target and debug.
    task_bytes bigint not null default 0,
    -- Of the results that are kept, and of the key lists that watermarks name, of tasks and of unacknowledged runs.
    result_bytes bigint not null default 0
) with (fillfactor = 50);

create function longshore.text_bytes(description text, trigger json, target json, debug text)
returns bigint language sql immutable as $$
select octet_length(description)::bigint + octet_length(trigger::text) + octet_length(target::text)
       + octet_length(debug)
$$;

create function longshore.key_list_bytes(watermark text) returns bigint language sql immutable as $$
select coalesce((watermark::json #>> '{keys, bytes}')::bigint, 0)
$$;

create function longshore.count_created_tasks() returns trigger language plpgsql as $$
begin
    insert into longshore.chain_usage as u (chain_id, tasks, task_bytes)
    select chain_id, count(*), sum(longshore.text_bytes(description, trigger, target, debug))
    from created
    group by chain_id
    order by chain_id
    on conflict (chain_id) do update set tasks = u.tasks + excluded.tasks, task_bytes = u.task_bytes + excluded.task_bytes;
    return null;
end
$$;

create trigger count_created_tasks after insert on longshore.tasks
    referencing new table as created for each statement execute function longshore.count_created_tasks();

create function longshore.count_removed_tasks() returns trigger language plpgsql as $$
begin
    with runs as (
        delete from longshore.runs r using removed
        where r.task_id = removed.id
        returning removed.chain_id, case when r.expires_at is not null then r.bytes else 0 end + r.key_list_bytes as bytes
    ),
    totals as (
        select chain_id, sum(tasks) as tasks, sum(task_bytes) as task_bytes, sum(result_bytes) as result_bytes
        from (
            select chain_id, 1 as tasks, longshore.text_bytes(description, trigger, target, debug) as task_bytes,
                   longshore.key_list_bytes(watermark) as result_bytes
            from removed
            union all
            select chain_id, 0, 0, bytes from runs
        ) parts
        group by chain_id
    ),
    usage as (
        select chain_id from longshore.chain_usage join totals using (chain_id) order by chain_id for update of chain_usage
    )
    update longshore.chain_usage u
    set tasks = u.tasks - totals.tasks, task_bytes = u.task_bytes - totals.task_bytes,
        result_bytes = u.result_bytes - totals.result_bytes
    from usage join totals using (chain_id)
    where u.chain_id = usage.chain_id;
    return null;
end
$$;

create trigger count_removed_tasks after delete on longshore.tasks
    referencing old table as removed for each statement execute function longshore.count_removed_tasks();

create function longshore.count_changed_task() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage
    set task_bytes = task_bytes + longshore.text_bytes(new.description, new.trigger, new.target, new.debug)
                     - longshore.text_bytes(old.description, old.trigger, old.target, old.debug)
    where chain_id = new.chain_id;
    return null;
end
$$;

create trigger count_changed_task after update of description, trigger, target, debug on longshore.tasks
    for each row execute function longshore.count_changed_task();

create function longshore.count_key_list() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage
    set result_bytes = result_bytes + longshore.key_list_bytes(new.watermark) - longshore.key_list_bytes(old.watermark)
    where chain_id = new.chain_id;
    return null;
end
$$;

create trigger count_key_list after update of watermark on longshore.tasks
    for each row
    when (longshore.key_list_bytes(old.watermark) <> longshore.key_list_bytes(new.watermark))
    execute function longshore.count_key_list();

create function longshore.count_result() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage u
    set result_bytes = result_bytes + new.key_list_bytes - old.key_list_bytes
                       + case when new.expires_at is null then 0 else new.bytes end
                       - case when old.expires_at is null then 0 else old.bytes end
    from longshore.tasks t
    where t.id = new.task_id and u.chain_id = t.chain_id;
    return null;
end
$$;

create trigger count_result after update of expires_at, key_list_bytes on longshore.runs
    for each row
    when ((old.expires_at is null) <> (new.expires_at is null) or old.key_list_bytes <> new.key_list_bytes)
    execute function longshore.count_result();

-- Destinations: chains' own places for results.
create table longshore.destinations (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    -- Never changes, as tasks name it.
    name text not null,
    kind text not null,
    settings json not null,
    -- Sealed by the vault, bound to chain and id.
    secret bytea not null,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    created_by text,
    unique (chain_id, name)
);

-- Webhooks

create table longshore.webhooks (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    url text not null,
    events text[] not null,
    -- Sealed by the vault, bound to chain and id; so are the previous ones.
    secret bytea not null,
    -- Null: the secret is the first one.
    secret_replaced_at timestamptz,
    created_at timestamptz not null default now(),
    created_by text,
    -- Null: messages are sent.
    disabled_at timestamptz,
    disabled_reason text
);

create index webhooks_of_chain on longshore.webhooks (chain_id, created_at desc, id);

-- Replaced secrets, which sign beside the current one until their time is over.
create table longshore.previous_webhook_secrets (
    webhook_id uuid not null references longshore.webhooks on delete cascade,
    secret bytea not null,
    signs_until timestamptz not null,
    primary key (webhook_id, secret)
);

-- The outbox: messages to webhooks. A dispatcher leases a due row by moving its `due_at`.
create table longshore.webhook_deliveries (
    id uuid primary key default gen_random_uuid(),
    webhook_id uuid not null references longshore.webhooks on delete cascade,
    task_id bigint not null,
    event text not null,
    revision bigint not null,
    payload text not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    attempts integer not null default 0,
    -- Those in which the message was sent; the pauses follow from it.
    attempts_since_redelivery integer not null default 0,
    -- Null: nothing more is to be sent.
    due_at timestamptz default now(),
    attempted_at timestamptz,
    status integer,
    error text,
    created_at timestamptz not null default now()
);

create index webhook_deliveries_of_webhook on longshore.webhook_deliveries (webhook_id, created_at desc, id);
create index webhook_deliveries_due on longshore.webhook_deliveries (due_at) where due_at is not null;
create index webhook_deliveries_due_of_webhook on longshore.webhook_deliveries (webhook_id, due_at) where due_at is not null;
create index webhook_deliveries_by_age on longshore.webhook_deliveries (created_at);

-- A time as the API shows it.
create function longshore.shown_time(moment timestamptz) returns text language sql stable as $$
select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

-- Write the messages of an event of a task to the webhooks of its chain.
create function longshore.send_event(task longshore.tasks, event_name text, facts jsonb)
returns void language plpgsql as $$
begin
    insert into longshore.webhook_deliveries (webhook_id, task_id, event, revision, payload)
    select w.id, task.id, event_name, task.revision,
           jsonb_build_object(
               'type', event_name,
               'timestamp', longshore.shown_time(task.modified_at),
               'data', jsonb_strip_nulls(jsonb_build_object(
                   'id', task.id, 'chain', task.chain_id, 'desc', task.description, 'action', task.action,
                   'state', task.state, 'revision', task.revision
               )) || facts
           )::text
    from longshore.webhooks w
    where w.chain_id = task.chain_id and event_name = any(w.events) and w.disabled_at is null;
    if found then
        perform pg_notify('longshore_webhook_deliveries', '');
    end if;
end
$$;

-- The facts about a run that are in an event.
create function longshore.facts_of_run(run longshore.runs) returns jsonb language sql stable as $$
select jsonb_build_object(
    'interval', jsonb_build_object(
        'start', longshore.shown_time(run.interval_start), 'end', longshore.shown_time(run.interval_end)
    ),
    'rows', run.rows, 'bytes', run.bytes
)
$$;

-- Each statement that ends a task also writes the messages to its chain's webhooks, in the same transaction.
create function longshore.write_webhook_deliveries() returns trigger language plpgsql as $$
begin
    perform longshore.send_event(
        new, 'task.' || lower(new.state),
        jsonb_strip_nulls(jsonb_build_object(
            'run', new.run, 'result', new.result,
            'reason', case when new.state = 'ERROR' then new.reason end
        )) || coalesce((
            -- No row where no run has ended, such as a task that was cancelled before its first one.
            select longshore.facts_of_run(r)
            from longshore.runs r
            where r.task_id = new.id and r.run = new.run and r.state = new.state
        ), '{}')
    );
    return null;
end
$$;

create trigger write_webhook_deliveries after update of state on longshore.tasks
    for each row when (old.state <> new.state and new.state in ('DONE', 'ERROR'))
    execute function longshore.write_webhook_deliveries();

-- The same for each statement that ends a delivery to a destination.
create function longshore.write_events_of_delivery() returns trigger language plpgsql as $$
begin
    perform longshore.send_event(
        t, case when new.state = 'delivered' then 'delivery.done' else 'delivery.failed' end,
        jsonb_strip_nulls(jsonb_build_object(
            'run', new.run, 'delivery', new.number, 'destination', new.destination, 'address', new.address,
            'evidence', new.evidence, 'reason', new.error
        )) || longshore.facts_of_run(r)
    )
    from longshore.tasks t
    join longshore.runs r on r.task_id = t.id and r.run = new.run
    where t.id = new.task_id;
    return null;
end
$$;

create trigger write_events_of_delivery after update of state on longshore.run_deliveries
    for each row when (old.state <> new.state and new.state in ('delivered', 'failed'))
    execute function longshore.write_events_of_delivery();

-- Users

create table longshore.users (
    id bigint generated always as identity primary key,
    name text not null,
    -- argon2id, as a PHC string, which names its own parameters.
    password text not null,
    -- Encrypted, not hashed: one-time codes are computed from it. Null: the user has no one-time codes.
    totp_secret bytea,
    -- The newest time step whose code was accepted; no code of it or of an older step is accepted again.
    totp_step bigint not null default 0,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

-- Keyboards send é as one character or as two.
create unique index users_by_name on longshore.users (lower(normalize(name)));

create table longshore.user_levels (
    user_id bigint not null references longshore.users on delete cascade,
    chain_id bigint not null,
    level text not null check (level in ('read', 'write', 'admin')),
    enabled boolean not null default true,
    primary key (user_id, chain_id)
);

create index users_of_chain on longshore.user_levels (chain_id, user_id);

-- Service clients and their access tokens

create table longshore.service_clients (
    id bigint generated always as identity primary key,
    chain_id bigint not null,
    name text not null,
    contact text not null default '',
    enabled boolean not null default true,
    -- Whether its tokens are those in the profile files of the chain's users, whatever it is named.
    for_profiles boolean not null default false,
    created_at timestamptz not null default now()
);

create unique index service_clients_by_name on longshore.service_clients (chain_id, lower(normalize(name)))
    where not for_profiles;
create unique index service_clients_for_profiles on longshore.service_clients (chain_id) where for_profiles;

create table longshore.access_tokens (
    id uuid primary key default gen_random_uuid(),
    client_id bigint not null references longshore.service_clients on delete cascade,
    -- The client's chain.
    chain_id bigint not null,
    -- Chains beside the client's own.
    more_chains bigint[] not null default '{}',
    level text not null check (level in ('read', 'write', 'admin')),
    -- Export indexes; null: all. An index may be here that the catalog no longer has.
    indexes text[],
    -- Such as users.phone_number.
    hidden_columns text[] not null default '{}',
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    -- The user whose profile file it is in; it is valid as long as the user has a level for the chain. Null: of a service.
    user_id bigint references longshore.users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Written at most once a minute.
    used_at timestamptz
);

create index access_tokens_of_client on longshore.access_tokens (client_id);
create index access_tokens_of_user on longshore.access_tokens (user_id) where user_id is not null;
create index access_tokens_of_chain on longshore.access_tokens (chain_id, created_at, id);
create index access_tokens_by_more_chains on longshore.access_tokens using gin (more_chains);

-- Download addresses that were given out.
create table longshore.links (
    id uuid primary key default gen_random_uuid(),
    task_id bigint not null references longshore.tasks on delete cascade,
    run integer not null,
    -- The credential that asked for the address, as in the audit log. The address ends with its token or session.
    actor_kind text not null,
    actor text not null,
    token_id uuid references longshore.access_tokens on delete cascade,
    session_id uuid,
    -- The level that this credential must still have.
    level text not null default 'read',
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- Null: without a limit.
    max_uses integer check (max_uses > 0),
    uses integer not null default 0,
    used_at timestamptz,
    revoked_at timestamptz
);

create index links_of_task on longshore.links (task_id, created_at desc, id);
create index links_by_expiry on longshore.links (expires_at);

-- Keys that the service signs with.
create table longshore.keys (
    name text primary key,
    value bytea not null
);

-- Keys that manifests are signed with (Ed25519). The public ones stay, so that old manifests can be verified.
create table longshore.signing_keys (
    -- Thumbprint of the public key (RFC 7638).
    kid text primary key,
    public_key bytea not null check (octet_length(public_key) = 32),
    -- The private key, sealed by the vault. Null: it signs nothing more, or only the process that made it has it.
    sealed bytea,
    created_at timestamptz not null default clock_timestamp()
);

-- Processes that run, as far as each has said so lately: see `process_list`.
create table longshore.processes (
    id uuid primary key,
    -- Kind, host and number, such as `worker web1:77`.
    name text not null,
    -- The ids of the secrets of LONGSHORE_SECRET that it has.
    secrets bytea[] not null,
    seen_at timestamptz not null default now()
);

-- Sessions of users

create table longshore.sessions (
    id uuid primary key default gen_random_uuid(),
    user_id bigint not null references longshore.users on delete cascade,
    key_sha256 bytea not null unique check (octet_length(key_sha256) = 32),
    address text not null,
    created_at timestamptz not null default now(),
    -- Written at most once a minute, or once in a tenth of the idle time.
    used_at timestamptz not null default now()
);

create index sessions_of_user on longshore.sessions (user_id);

-- Sign-ins whose password was right and whose one-time code is still to come.
create table longshore.pending_sign_ins (
    id uuid primary key default gen_random_uuid(),
    user_id bigint not null references longshore.users on delete cascade,
    created_at timestamptz not null default now(),
    -- Codes that were checked.
    codes integer not null default 0
);

-- Failed sign-ins, by address, by account, and apart by account and known network; all are hashed, as users type
-- passwords into the wrong field.
create table longshore.sign_in_failures (
    key bytea primary key,
    failures integer not null,
    at timestamptz not null default now(),
    -- Until when further tries are refused unread.
    until timestamptz not null
);

-- Accounts that signed in lately, each with its network: they have a share of password checks of their own.
create table longshore.known_sign_ins (
    -- SHA-256 of the account, and then of the network.
    key bytea primary key,
    at timestamptz not null default now()
);

-- Requests that the API processes have counted together. Unlogged, as a crash costs one window of counts at most.
create unlogged table longshore.rate_counts (
    key text primary key,
    hits bigint not null,
    expires_at timestamptz not null
);

create index rate_counts_expired on longshore.rate_counts (expires_at);

-- Return the level that a credential has for a chain now; null where it has none. Open requests and download
-- addresses are checked by it. `session`: null where the credential is no session. `idle`, `life`: seconds.
create function longshore.level_of(kind text, id text, session uuid, chain bigint, idle float8, life float8)
returns text language sql stable as $$
select case $1
    when 'token' then (
        select t.level
        from longshore.access_tokens t
        join longshore.service_clients c on c.id = t.client_id
        where t.id = case $1 when 'token' then $2::uuid end
          and t.revoked_at is null and (t.expires_at is null or t.expires_at > now()) and c.enabled
          and (t.chain_id = $4 or t.more_chains @> array[$4])
          and (t.user_id is null or exists (
              select
              from longshore.user_levels l
              join longshore.users u on u.id = l.user_id
              where l.user_id = t.user_id and l.chain_id = t.chain_id and l.enabled and u.disabled_at is null
          ))
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

-- Audit log

create table longshore.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    chain_id bigint not null,
    -- token, user, command (the command line), address (the holder of a signed address), or service (the service itself)
    actor_kind text not null check (actor_kind in ('token', 'user', 'command', 'address', 'service')),
    actor text not null,
    action text not null,
    object text not null,
    address text not null,
    request_id text not null,
    details json
);

create index audit_of_chain on longshore.audit (chain_id, id desc);
create index audit_of_chain_by_time on longshore.audit (chain_id, at);

create function longshore.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is only ever appended to' using errcode = 'insufficient_privilege';
end
$$;

-- A trigger rather than a missing privilege, as it also stops the embedded server's superuser; `enable always`, as it
-- also fires in sessions whose replication role is `replica`.
create trigger append_only before update or delete or truncate on longshore.audit
    for each statement execute function longshore.refuse_change();
alter table longshore.audit enable always trigger append_only;

-- Exports read as this role where it exists and may read the relation, as row-level security does not apply to a
-- table's owner or a superuser. A role that may not create roles does without it.
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

-- Exports see the entries of their chain. The service itself, as owner or as a role of its own, appends for all chains.
alter table longshore.audit enable row level security;
create policy of_chain on longshore.audit
    using (
        current_user <> 'longshore_export'
        or chain_id = (select nullif(current_setting('longshore.chain', true), '')::bigint)
    )
    with check (true);
