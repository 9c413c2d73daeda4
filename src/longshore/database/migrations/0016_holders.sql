-- Holders: an attempt may be begun twice by whoever began it, when the answer to the first time was lost.

alter table longshore.runs
    -- Who has the newest attempt: a name of that worker's own.
    add column holder uuid;
