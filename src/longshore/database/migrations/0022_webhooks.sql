-- Webhooks: a receiver that says it is gone disables its webhook; a secret is replaced with a time in which both sign; the
-- message about a failed task carries the reason.

alter table longshore.webhooks
    -- Null: messages are sent.
    add column disabled_at timestamptz,
    add column disabled_reason text,
    -- The secret before, which signs beside the new one until then.
    add column old_secret bytea,
    add column old_secret_until timestamptz;

create or replace function longshore.put_into_outbox() returns trigger language plpgsql as $$
declare
    event_name text := 'task.' || lower(new.state);
    reason text;
begin
    if new.state = 'ERROR' then
        -- The newest entry of the log that is no change of state.
        select l.msg into reason
        from longshore.task_logs l
        where l.task_id = new.id and l.seq >= new.log_length - 10 and l.msg !~ '^[A-Z]+ -> [A-Z]+$'
        order by l.seq desc
        limit 1;
    end if;
    insert into longshore.deliveries (webhook_id, task_id, event, revision, payload)
    select w.id, new.id, event_name, new.revision,
           jsonb_strip_nulls(jsonb_build_object(
               'type', event_name,
               'timestamp', to_char(new.modified_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
               'data', jsonb_build_object(
                   'id', new.id, 'chain', new.chain_id, 'desc', new.description, 'action', new.action,
                   'state', new.state, 'revision', new.revision, 'run', new.run, 'result', new.result,
                   'reason', reason
               )
           ))::text
    from longshore.webhooks w
    where w.chain_id = new.chain_id and event_name = any(w.events) and w.disabled_at is null;
    if found then
        perform pg_notify('longshore_deliveries', '');
    end if;
    return null;
end
$$;
