"""Conditions of SQL that say where a task (a row `t` of `tasks`) or a delivery (`d` of `run_deliveries`) is.

docs/architecture.md shows which columns make each of them. The partial indexes of the tables repeat some.
"""

# The newest attempt is to begin as soon as its chain and a worker have room for it: the first one of a new run, or of a
# run in progress a further one.
QUEUED = "t.attempt_began_at is null and t.due_at is null"

# A new run is queued. Until it begins, it can be withdrawn.
RUN_QUEUED = f"{QUEUED} and t.state <> 'INPROGRESS'"

# The message of the queued attempt is in the queue; the chain has given it a slot.
SENT = f"{QUEUED} and not t.parked"

# A worker has the newest attempt, or is lost.
RUNNING = "t.state = 'INPROGRESS' and t.attempt_began_at is not null and not t.delivering"

# The task has a slot of its chain: its run is neither parked nor being delivered.
HOLDS_SLOT = f"not t.parked and ((t.state = 'INPROGRESS' and not t.delivering) or ({QUEUED}))"

# The task has ended, is not due again, has no queued run and no run of a backfill to come.
NO_RUN_LEFT = """t.state in ('DONE', 'ERROR') and t.due_at is null and t.attempt_began_at is not null
       and t.backfill is null"""

# Nor has it a pending delivery.
SETTLED = f"""{NO_RUN_LEFT}
       and not exists (select from longshore.run_deliveries d where d.task_id = t.id and d.state = 'pending')"""

# The message of the newest attempt of a delivery is in the queue, or a worker has the attempt.
DELIVERY_SENT = "d.state = 'pending' and d.due_at is null"

# A worker has the newest attempt of a delivery, or is lost.
DELIVERY_RUNNING = f"{DELIVERY_SENT} and d.began_at is not null"
