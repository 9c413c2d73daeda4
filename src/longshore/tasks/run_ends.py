"""The end of a run: finish, fail, lost worker. One statement ends the run with its log entries, as in `attempts`.

Its transaction also sets when the next one is due, and gives the chain's slot to the next task. A run
with deliveries gives its slot when its result is stored, and ends with the last of them, see `delivery_ends`.
"""

from datetime import timedelta

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.retry import MAX_FAILURES
from longshore.tasks import deliveries
from longshore.tasks.attempts import RunResult, StaleAttemptError, retry, storable
from longshore.tasks.conditions import RUNNING
from longshore.tasks.next_run import ENDED_COLUMNS, EndedRun, plan_next_run
from longshore.tasks.queue import Message
from longshore.tasks.slots import fill_slots
from longshore.telemetry import metrics

# The attempt that a statement ends, and its task. No row where a newer one exists, or the run has ended.
BEFORE = f"""
before as (
    select t.*, greatest(t.modified_at, now()) as at
    from longshore.tasks t
    where t.id = $1 and t.attempt = $2 and {RUNNING}
    for update
)"""

# $3: the RunResult as JSON. Of several indexes there is no one list of fields for the summary.
RESULT = """
new as materialized (
    select outcome.*, described.files,
           increment ->> 'start' as watermark_from, increment ->> 'end' as watermark_to,
           (increment ->> 'on_ack')::boolean as on_ack,
           case when manifest is not null then json_build_object(
               'index', one.index, 'fields', one.fields, 'segment', one.segment,
               'full', described.full, 'files', json_array_length(described.files)
           ) end as summary
    from json_to_record($3::json) as outcome (
        result text, location text, total bigint, success bigint, size bigint, sha256 text, snapshot_at timestamptz,
        manifest text, signature text, increment json, note text, deliveries json, column_types text,
        table_schema text, table_stats text[], skips bigint
    )
    cross join lateral json_to_record(manifest::json) as described (
        index json, fields json, segment json, "full" json, files json, indexes json
    )
    left join lateral (
        select described.index, described.fields, described.segment where described.indexes is null
        union all
        select * from json_to_record(described.indexes -> 0) as only_one (index json, fields json, segment json)
        where json_array_length(described.indexes) = 1
    ) one on true
),
files as (
    insert into longshore.run_files (task_id, run, number, path, index, partition, rows, bytes, sha256, table_stats)
    select before.id, before.run, one.number, file ->> 'path', file ->> 'index', file -> 'partition',
           (file ->> 'rows')::bigint, (file ->> 'bytes')::bigint, decode(file ->> 'sha256', 'hex'),
           new.table_stats[one.number::int]
    from before, new, json_array_elements(new.files) with ordinality one (file, number)
)"""

# $4: how long the result is stored.
COLUMNS_OF_RESULT = """
progress_at = before.at, result = new.result, location = new.location, rows = new.success,
        bytes = new.size, sha256 = decode(new.sha256, 'base64'), snapshot_at = new.snapshot_at,
        manifest = new.manifest, signature = new.signature, summary = new.summary,
        skips = new.skips, column_types = new.column_types::json, table_schema = new.table_schema,
        table_stats = case when new.files is null then new.table_stats[1] end,
        watermark_from = new.watermark_from, watermark_to = new.watermark_to,
        expires_at = case when new.location is not null then before.at + $4::interval end,
        -- An increment that is given again may have been acknowledged meanwhile: then the watermark has moved on.
        acknowledged = case when new.on_ack then before.watermark is distinct from new.watermark_from
                                             and before.watermark is not distinct from new.watermark_to end,
        key_list_bytes = case
            when new.on_ack and before.watermark is not distinct from new.watermark_from and not exists (
                select from longshore.runs o
                where o.task_id = before.id and not o.acknowledged and o.watermark_to = new.watermark_to
                  and o.key_list_bytes > 0
            ) then longshore.key_list_bytes(new.watermark_to) else 0
        end"""

LOG_LENGTH = "before.log_length + 2 + (new.note is not null)::int"

# The last entry follows.
ENTRIES = """
entries as (
    insert into longshore.task_logs (task_id, seq, at, msg, total, success, skips, errors)
    select before.id, before.log_length, before.at, 'success', new.total, new.success, new.skips, 0
    from before, new
    union all
    select before.id, before.log_length + 1, before.at, new.note, null, null, null, null
    from before, new
    where new.note is not null
    union all
    select before.id, before.log_length + 1 + (new.note is not null)::int, before.at, {}, null, null, null, null
    from before, new
)"""

ENDED = f"""
select {ENDED_COLUMNS}, r.rows, r.bytes
from before
join longshore.runs r on r.task_id = before.id and r.run = before.run  -- as it was before
"""

FINISH = f"""
with {BEFORE},
{RESULT},
task as (
    update longshore.tasks t
    set state = 'DONE', modified_at = before.at,
        -- The result of the latest run: a run of an older interval, such as that of a backfill, leaves it as it is.
        result = coalesce((
            select r.result
            from longshore.runs r
            where r.task_id = before.id and r.state = 'DONE' and r.interval_end > before.interval_end
            order by r.interval_end desc, r.run desc
            limit 1
        ), new.result),
        watermark = case when new.on_ack is false then new.watermark_to else before.watermark end,
        revision = before.revision + 1, log_length = {LOG_LENGTH}
    from before, new
    where t.id = before.id
),
run as (
    update longshore.runs r
    set state = 'DONE', ended_at = before.at, {COLUMNS_OF_RESULT}
    from before, new
    where r.task_id = before.id and r.run = before.run
),
-- An increment that waited when `on_ack` was taken out of the target was given again by this run, and needs no more.
-- One that begins elsewhere than the watermark is never given again, so its key list is needed no more.
superseded_increments as (
    update longshore.runs r
    set acknowledged = r.watermark_from is not distinct from new.watermark_from
                       and r.watermark_to = new.watermark_to,
        key_list_bytes = 0
    from before, new
    where r.task_id = before.id and r.run <> before.run and new.on_ack is false and not r.acknowledged
      and (r.key_list_bytes > 0 or (r.watermark_from is not distinct from new.watermark_from
                                    and r.watermark_to = new.watermark_to))
),
{ENTRIES.format("'INPROGRESS -> DONE'")}
{ENDED}"""

# The attempt has ended: the number of the newest one moves on.
BEGIN_DELIVERIES = f"""
with {BEFORE},
{RESULT},
task as (
    update longshore.tasks t
    set delivering = true, attempt = before.attempt + 1, result = '', modified_at = before.at,
        revision = before.revision + 1, log_length = {LOG_LENGTH}
    from before, new
    where t.id = before.id
),
run as (
    update longshore.runs r
    set {COLUMNS_OF_RESULT}
    from before, new
    where r.task_id = before.id and r.run = before.run
),
wanted as (
    select one.number, one.delivery ->> 'destination' as destination, one.delivery ->> 'place' as place,
           (one.delivery ->> 'entry')::json as entry
    from new, json_array_elements(new.deliveries) with ordinality one (delivery, number)
),
deliveries as (
    insert into longshore.run_deliveries (task_id, run, number, chain_id, destination, destination_id, place, entry)
    select before.id, before.run, wanted.number, before.chain_id, wanted.destination, named.id, wanted.place,
           wanted.entry
    from before
    cross join wanted
    left join longshore.destinations named on named.chain_id = before.chain_id and named.name = wanted.destination
),
{ENTRIES.format("(select 'delivering to ' || string_agg(destination, ', ' order by number) from wanted)")}
{ENDED}"""

FAIL = f"""
with {BEFORE},
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
{ENDED}"""

RUN_OF_ATTEMPT = f"""
select t.attempt - r.first_attempt + 1 as number, r.failures
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = t.run
where t.id = $1 and t.attempt = $2 and {RUNNING}
"""


class ReportedRun(EndedRun, frozen=True):
    """A run that has ended or is to be delivered, with the rows and bytes that its attempt had reported before."""

    rows: int
    bytes: int


async def finish(pool: Pool, message: Message, outcome: RunResult, result_time: timedelta) -> None:
    """End a run as DONE, or begin its deliveries, where it has any. Raises StaleAttemptError.

    State, result, log entries and run record are one statement. The attempt ends in either case.

    `result_time`: how long the result is stored.
    """
    statement = BEGIN_DELIVERIES if outcome.deliveries else FINISH
    result = msgspec.json.encode(outcome).decode()
    async with pool.acquire() as connection, connection.transaction():
        ended = await _ended(connection, statement, message, result, result_time)
        if outcome.deliveries:
            await deliveries.send_due_deliveries(connection, ended.chain)
            await fill_slots(connection, ended.chain)
        else:
            await plan_next_run(connection, ended)
    if not outcome.deliveries:
        metrics.RUNS.labels(ended.action, "DONE").inc()
    metrics.count_written(ended.action, outcome.success - ended.rows, outcome.size - ended.bytes)


async def fail(pool: Pool, message: Message, why: str) -> None:
    """End a run as ERROR; `why` is the entry of the task's log. Raises StaleAttemptError."""
    async with pool.acquire() as connection, connection.transaction():
        ended = await _ended(connection, FAIL, message, storable(why))
        await plan_next_run(connection, ended)
    metrics.RUNS.labels(ended.action, "ERROR").inc()


async def _ended(connection: Connection, statement: str, message: Message, *args: object) -> ReportedRun:
    row = await connection.fetchrow(statement, message.task, message.attempt, *args)
    if row is None:
        raise StaleAttemptError(message)
    return ReportedRun(**row)


async def retry_or_fail_lost(pool: Pool, message: Message) -> bool:
    """Retry or fail an attempt whose worker is lost; return False if the attempt is not running.

    Call it when the message of the attempt is delivered a second time or no longer exists.
    """
    run = await pool.fetchrow(RUN_OF_ATTEMPT, message.task, message.attempt)
    if run is None:
        return False
    if run["failures"] + 1 < MAX_FAILURES:
        await retry(pool, message, f"worker lost, attempt {run['number'] + 1}", 0, counts_as_failure=True)
    else:
        await fail(pool, message, f"worker lost, given up after {MAX_FAILURES} failures")
    metrics.LOST_ATTEMPTS.inc()
    return True
