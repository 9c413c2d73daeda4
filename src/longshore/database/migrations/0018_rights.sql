-- Rights are judged on what a run recorded: the export indexes and columns that it reads, and who asked for it.

alter table longshore.runs
    -- An array of {"index", "level", "columns"}. Null: the run has read nothing yet, or a version that did not record it ran it.
    add column reads jsonb;

alter table longshore.tasks
    -- What all runs of the task have read, put together: whoever may not see a part of it does not see the log.
    add column reads jsonb not null default '[]',
    -- Kind and id, such as 'user 7' or 'token 0b9f…'. Null: made by a version that did not record it, or by the service.
    add column created_by text,
    -- Who last set target or trigger. Runs keep within the limits of that credential.
    add column defined_by text,
    -- Who asked for the next run; null where the schedule did.
    add column asked_by text;

alter table longshore.segments add column created_by text;
alter table longshore.webhooks add column created_by text;
