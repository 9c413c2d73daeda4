"""The withdrawal of a queued run: for a pause, at the end of its backfill, or where a time of the schedule is due."""

from longshore.tasks.conditions import RUN_QUEUED

# The schedule's own run is due again: at $2, or at its time if that is earlier or $2 is null. One of a backfill waits
# for its turn, and the schedule is due when it was. A new number makes the message of the attempt outdated.
WITHDRAW = f"""
update longshore.tasks t
set due_at = case when t.origin = 'backfill' then t.next_due_at else least($2::timestamptz, t.interval_end) end,
    attempt_began_at = case when t.origin = 'backfill' and t.next_due_at is null then t.modified_at end,
    next_due_at = null, parked = false, attempt = t.attempt + 1, asked_by = null
where t.id = $1 and {RUN_QUEUED}
"""
