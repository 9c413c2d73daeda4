"""The end of a run: finish, fail, lost worker. One statement ends the run with its log entries, as in `attempts`.

Its transaction also sets when the next one is due, and gives the chain's slot to the next task. A run
with deliveries gives its slot when its result is stored, and ends with the last of them, see `delivery_ends`.
"""

from datetime import timedelta

import asyncpg

from longshore.database.connect import Connection, Pool
from longshore.database.retry import MAX_FAILURES
from longshore.tasks import deliveries, schedule
from longshore.tasks.attempts import RunResult, StaleAttemptError, retry, storable
from longshore.tasks.model import ChainId
from longshore.tasks.queue import Message
from longshore.tasks.slots import fill_slots
from longshore.telemetry import metrics

FINISH = """
with before as (
    select *, greatest(modified_at, now()) as at, cardinality($18::text[]) > 0 as delivers
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS' and not delivering
    for update
),
task as (
    update longshore.tasks t
    set state = case when before.delivers then 'INPROGRESS' else 'DONE' end, delivering = before.delivers,
        attempt = before.attempt + before.delivers::int, modified_at = before.at,
        -- The result of the latest run: a run of an older interval, such as that of a backfill, leaves it as it is.
        result = case when before.delivers then '' else coalesce((
            select r.result
            from longshore.runs r
            where r.task_id = before.id and r.state = 'DONE' and r.interval_end > before.interval_end
            order by r.interval_end desc, r.run desc
            limit 1
        ), $3) end,
        watermark = case when $13::boolean is false and not before.delivers then $12 else before.watermark end,
        revision = before.revision + 1, log_length = before.log_length + 2 + ($14::text is not null)::int
    from before
    where t.id = before.id
),
described as materialized (
    select $10::text::json as manifest, $10::text::json -> 'files' as files, $10::text::json -> 'indexes' as indexes
),
run as (
    update longshore.runs r
    set state = case when before.delivers then 'INPROGRESS' else 'DONE' end,
        ended_at = case when not before.delivers then before.at end, progress_at = before.at,
        result = $3, location = $4,
        rows = $5, bytes = $6, sha256 = $7, snapshot_at = $8, manifest = $10, signature = $17,
        -- Of several indexes there is no one list of fields.
        summary = (
            select json_build_object(
                'index', only_one -> 'index', 'fields', only_one -> 'fields', 'segment', only_one -> 'segment',
                'full', manifest -> 'full', 'files', json_array_length(files)
            )
            from described
            left join lateral (
                select coalesce(indexes -> 0, manifest) as only_one
                where indexes is null or json_array_length(indexes) = 1
            ) one on true
            where manifest is not null
        ),
        skips = $16, column_types = $21, table_schema = $22,
        table_stats = (select ($23::text[])[1] from described where files is null or json_typeof(files) = 'null'),
        watermark_from = $11, watermark_to = $12, expires_at = before.at + $15::interval,
        -- An increment that is given again may have been acknowledged meanwhile: then the watermark has moved on.
        acknowledged = case when $13 then before.watermark is distinct from $11 end,
        key_list_bytes = case
            when $13 and before.watermark is not distinct from $11 and not exists (
                select from longshore.runs o
                where o.task_id = before.id and not o.acknowledged and o.watermark_to = $12 and o.key_list_bytes > 0
            ) then longshore.key_list_bytes($12) else 0
        end
    from before
    where r.task_id = before.id and r.run = before.run
),
files as (
    insert into longshore.run_files (task_id, run, number, path, index, partition, rows, bytes, sha256,
                                     table_stats)
    select before.id, before.run, one.number, file ->> 'path', file ->> 'index', file -> 'partition',
           (file ->> 'rows')::bigint, (file ->> 'bytes')::bigint, decode(file ->> 'sha256', 'hex'),
           ($23::text[])[one.number::int]
    from before, described, json_array_elements(described.files) with ordinality one (file, number)
),
-- An increment that waited when `on_ack` was taken out of the target was given again by this run, and needs no more.
-- One that begins elsewhere than the watermark is never given again, so its key list is needed no more.
given as (
    update longshore.runs r
    set acknowledged = r.watermark_from is not distinct from $11 and r.watermark_to = $12, key_list_bytes = 0
    from before
    where r.task_id = before.id and r.run <> before.run and $13::boolean is false and not before.delivers
      and not r.acknowledged
      and (r.key_list_bytes > 0 or (r.watermark_from is not distinct from $11 and r.watermark_to = $12))
),
deliveries as (
    insert into longshore.run_deliveries (task_id, run, number, chain_id, destination, destination_id, place, entry)
    select before.id, before.run, planned.number, before.chain_id, planned.destination, named.id, planned.place,
           planned.entry::json
    from before
    cross join unnest($18::text[], $19::text[], $20::text[]) with ordinality
         as planned (destination, place, entry, number)
    left join longshore.destinations named on named.chain_id = before.chain_id and named.name = planned.destination
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg, total, success, skips, errors)
    select before.id, before.log_length, before.at, 'success', $9::bigint, $5::bigint, $16::bigint, 0
    from before
    union all
    select before.id, before.log_length + 1, before.at, $14, null, null, null, null
    from before
    where $14 is not null
    union all
    select before.id, before.log_length + 1 + ($14 is not null)::int, before.at,
           case when before.delivers then 'delivering to ' || array_to_string($18, ', ') else 'INPROGRESS -> DONE' end,
           null, null, null, null
    from before
)
select before.id, chain_id, trigger, planned_at, schedule_ended, action, reported.rows, reported.bytes
from before
join longshore.runs reported on reported.task_id = before.id and reported.run = before.run  -- as it was before
"""

FAIL = """
with before as (
    select *, greatest(modified_at, now()) as at
    from longshore.tasks
    where id = $1 and attempt = $2 and attempt_began_at is not null and state = 'INPROGRESS' and not delivering
    for update
),
task as (
    update longshore.tasks t
    set state = 'ERROR', reason = $3, modified_at = before.at,
        revision = before.revision + 1, log_length = before.log_length + 2
    from before
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = 'ERROR', reason = $3, ended_at = before.at
    from before
    where r.task_id = before.id and r.run = before.run
),
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg)
    select before.id, before.log_length, before.at, $3 from before
    union all
    select before.id, before.log_length + 1, before.at, 'INPROGRESS -> ERROR' from before
)
select id, chain_id, trigger, planned_at, schedule_ended, action from before
"""

# The next run has a trace of its own: with one for all of them it would have no end.
NEXT = """
update longshore.tasks
set attempt = attempt + 1, attempt_began_at = null, due_at = $2, asked_by = null,
    traceparent = null, follows = coalesce(follows, traceparent)
where id = $1
"""

# $2: the log entry.
END_SCHEDULE = """
with task as (
    update longshore.tasks
    set schedule_ended = true, paused = false, revision = revision + 1, log_length = log_length + 1
    where id = $1
    returning id, log_length, modified_at
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, log_length - 1, modified_at, $2 from task
"""

# A run whose newest attempt has begun and has not ended.
UNENDED = """
select t.attempt - r.first_attempt + 1 as number, r.failures
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.id = $1 and t.attempt = $2 and t.attempt_began_at is not null and t.state = 'INPROGRESS' and not t.delivering
"""


async def finish(pool: Pool, message: Message, outcome: RunResult, keep: timedelta) -> None:
    """End a run as DONE, or begin its deliveries, where it has any. Raises StaleAttemptError.

    State, result, log entries and run record are one statement. The attempt ends in either case.

    `keep`: how long the result is stored.
    """
    increment = outcome.increment
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.fetchrow(
            FINISH,
            message.task,
            message.attempt,
            outcome.result,
            outcome.location,
            outcome.success,
            outcome.size,
            outcome.sha256,
            outcome.snapshot_at,
            outcome.total,
            outcome.manifest,
            increment and increment.start,
            increment and increment.end,
            increment and increment.on_ack,
            outcome.note,
            keep if outcome.location else None,
            outcome.skips,
            outcome.signature,
            [each.destination for each in outcome.deliveries],
            [each.place for each in outcome.deliveries],
            [each.entry for each in outcome.deliveries],
            outcome.column_types,
            outcome.table_schema,
            list(outcome.table_stats),
        )
        if ended is None:
            raise StaleAttemptError(message)
        if outcome.deliveries:
            await deliveries.send_due_deliveries(connection, ChainId(ended["chain_id"]))
            await fill_slots(connection, ChainId(ended["chain_id"]))
        else:
            await plan_next_run(connection, ended)
    if not outcome.deliveries:
        metrics.RUNS.labels(ended["action"], "DONE").inc()
    metrics.count_written(ended["action"], outcome.success - ended["rows"], outcome.size - ended["bytes"])


async def fail(pool: Pool, message: Message, why: str) -> None:
    """End a run as ERROR; `why` is the entry of the task's log. Raises StaleAttemptError."""
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.fetchrow(FAIL, message.task, message.attempt, storable(why))
        if ended is None:
            raise StaleAttemptError(message)
        await plan_next_run(connection, ended)
    metrics.RUNS.labels(ended["action"], "ERROR").inc()


async def retry_or_fail_lost(pool: Pool, message: Message) -> bool:
    """Retry or fail an attempt whose worker is lost; return False if the attempt is not running.

    Call it when the message of the attempt is delivered a second time or no longer exists.
    """
    run = await pool.fetchrow(UNENDED, message.task, message.attempt)
    if run is None:
        return False
    if run["failures"] + 1 < MAX_FAILURES:
        await retry(pool, message, f"worker lost, attempt {run['number'] + 1}", 0, failed=True)
    else:
        await fail(pool, message, f"worker lost, given up after {MAX_FAILURES} failures")
    metrics.LOST.inc()
    return True


async def plan_next_run(connection: Connection, ended: asyncpg.Record) -> None:
    """Set when a task whose run has ended is due again, and give the chain's slot to the next task.

    `ended`: its id, chain_id, trigger, planned_at and schedule_ended.
    """
    if not ended["schedule_ended"]:
        try:
            due = schedule.following(schedule.decode(ended["trigger"]), ended["planned_at"])
        except Exception as error:  # an invalid trigger ends the schedule; the end of the run stands
            await connection.execute(
                END_SCHEDULE, ended["id"], storable(f"the schedule has ended: {schedule.uncomputable(error)}")
            )
        else:
            if due is not None:
                await connection.execute(NEXT, ended["id"], due)
    await fill_slots(connection, ChainId(ended["chain_id"]))
