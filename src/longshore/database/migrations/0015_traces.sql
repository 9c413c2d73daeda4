-- Traces, and since when a task waits.

alter table longshore.tasks
    -- The trace that the newest run belongs to, as W3C's `traceparent`: that of the request that asked for it. Null: none
    -- was traced, or it is a later run of a schedule and begins its own.
    add column traceparent text,
    -- The trace of the schedule's first run, which those of its later runs link to.
    add column follows text,
    -- When the newest attempt was due. It says nothing while the task has a time to come (`due_at`).
    add column waits_since timestamptz not null default now();
