-- Telling: waiters hear of progress and of deletions; the ends of tasks go out as webhooks; requests that are sent again.

create function longshore.tell_of_deleted_task() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', old.id || ' ' || old.revision + 1);
    return null;
end
$$;

create trigger tell_of_deleted_task after delete on longshore.tasks
    for each row execute function longshore.tell_of_deleted_task();

-- Progress is no change of the task, so it has no revision.
create function longshore.tell_of_progress() returns trigger language plpgsql as $$
begin
    perform pg_notify('longshore_tasks', new.task_id::text);
    return null;
end
$$;

create trigger tell_of_progress after update of rows, bytes, rows_expected on longshore.runs
    for each row when (old.rows is distinct from new.rows or old.bytes is distinct from new.bytes)
    execute function longshore.tell_of_progress();

create table longshore.webhooks (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    url text not null,
    events text[] not null,
    secret bytea not null,
    created_at timestamptz not null default now()
);

create index webhooks_of_chain on longshore.webhooks (chain_id, created_at desc, id);

-- The outbox: what is to be said to whom. A row that is due is taken by a courier, which puts `due_at` off as it does.
create table longshore.deliveries (
    id uuid primary key default gen_random_uuid(),
    webhook_id uuid not null references longshore.webhooks on delete cascade,
    task_id bigint not null,
    event text not null,
    revision bigint not null,
    payload text not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    attempts integer not null default 0,
    -- The attempts since it was last sent out by hand, from which the pauses are counted.
    tries integer not null default 0,
    -- Null: nothing more is to be done.
    due_at timestamptz default now(),
    attempted_at timestamptz,
    status integer,
    fault text,
    created_at timestamptz not null default now()
);

create index deliveries_of_webhook on longshore.deliveries (webhook_id, created_at desc, id);
create index deliveries_due on longshore.deliveries (due_at) where due_at is not null;
create index deliveries_by_age on longshore.deliveries (created_at);

-- Whichever statement ends a task, its webhooks' messages are written in the same transaction.
create function longshore.put_into_outbox() returns trigger language plpgsql as $$
declare
    event_name text := 'task.' || lower(new.state);
begin
    insert into longshore.deliveries (webhook_id, task_id, event, revision, payload)
    select w.id, new.id, event_name, new.revision,
           json_build_object(
               'type', event_name,
               'timestamp', to_char(new.modified_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
               'data', json_build_object(
                   'id', new.id, 'chain', new.chain_id, 'desc', new.description, 'action', new.action,
                   'state', new.state, 'revision', new.revision, 'run', new.run, 'result', new.result
               )
           )::text
    from longshore.webhooks w
    where w.chain_id = new.chain_id and event_name = any(w.events);
    if found then
        perform pg_notify('longshore_deliveries', '');
    end if;
    return null;
end
$$;

create trigger put_into_outbox after update of state on longshore.tasks
    for each row when (old.state <> new.state and new.state in ('DONE', 'ERROR'))
    execute function longshore.put_into_outbox();

-- Answers to requests that may be sent again under the same key.
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
