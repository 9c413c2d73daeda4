-- Increments: how far a task that exports only what is new has come. A mark is text whose meaning only the action knows.

-- Where the next increment begins; null before the first.
alter table longshore.tasks add mark text;

alter table longshore.runs
    add mark_from text,
    add mark_to text,
    -- False: the mark waits for the client to confirm this increment. Null: nobody has to.
    add acknowledged boolean;

-- The increments that wait, so that they are found among the runs of years.
create index runs_unacknowledged on longshore.runs (task_id, run) where not acknowledged;
