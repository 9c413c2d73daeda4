-- What a chain has stored, counted as it changes, so that a quota costs one row to check. Whoever makes a task holds the
-- chain's row until the transaction ends, so that two of them cannot both take the last place.
create table longshore.chain_usage (
    chain_id bigint primary key,
    tasks bigint not null default 0,
    -- Of the texts that clients gave: description, trigger, target and debug.
    task_bytes bigint not null default 0,
    -- Of the results that are kept.
    result_bytes bigint not null default 0
) with (fillfactor = 50);

create function longshore.count_new_tasks() returns trigger language plpgsql as $$
begin
    insert into longshore.chain_usage as u (chain_id, tasks, task_bytes)
    select chain_id, count(*), sum(octet_length(description) + octet_length(trigger::text)
                                   + octet_length(target::text) + octet_length(debug))
    from made
    group by chain_id
    order by chain_id
    on conflict (chain_id) do update set tasks = u.tasks + excluded.tasks, task_bytes = u.task_bytes + excluded.task_bytes;
    return null;
end
$$;

create function longshore.count_changed_task() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage
    set task_bytes = task_bytes
        + octet_length(new.description) + octet_length(new.trigger::text) + octet_length(new.target::text)
        + octet_length(new.debug)
        - octet_length(old.description) - octet_length(old.trigger::text) - octet_length(old.target::text)
        - octet_length(old.debug)
    where chain_id = new.chain_id;
    return null;
end
$$;

-- Before, as its runs go with it.
create function longshore.count_removed_task() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage
    set tasks = tasks - 1,
        task_bytes = task_bytes - octet_length(old.description) - octet_length(old.trigger::text)
            - octet_length(old.target::text) - octet_length(old.debug),
        result_bytes = result_bytes - (
            select coalesce(sum(r.bytes), 0) from longshore.runs r
            where r.task_id = old.id and r.expires_at is not null
        )
    where chain_id = old.chain_id;
    return old;
end
$$;

create function longshore.count_result() returns trigger language plpgsql as $$
begin
    update longshore.chain_usage u
    set result_bytes = result_bytes + case when new.expires_at is null then -old.bytes else new.bytes end
    from longshore.tasks t
    where t.id = new.task_id and u.chain_id = t.chain_id;
    return null;
end
$$;

create trigger count_new_tasks after insert on longshore.tasks
    referencing new table as made for each statement execute function longshore.count_new_tasks();
create trigger count_changed_task after update of description, trigger, target, debug on longshore.tasks
    for each row execute function longshore.count_changed_task();
create trigger count_removed_task before delete on longshore.tasks
    for each row execute function longshore.count_removed_task();
create trigger count_result after update of expires_at on longshore.runs
    for each row when ((old.expires_at is null) <> (new.expires_at is null))
    execute function longshore.count_result();

-- The triggers keep others from writing until this is committed.
insert into longshore.chain_usage (chain_id, tasks, task_bytes, result_bytes)
select t.chain_id, count(*), sum(octet_length(t.description) + octet_length(t.trigger::text)
                                 + octet_length(t.target::text) + octet_length(t.debug)),
       coalesce(sum(r.bytes), 0)
from longshore.tasks t
left join lateral (
    select sum(bytes) as bytes from longshore.runs r where r.task_id = t.id and r.expires_at is not null
) r on true
group by t.chain_id;
