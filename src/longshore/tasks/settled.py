"""When nothing of a task is left to do: conditions on its row `t`."""

# The task has ended, is not due again, has no queued run and no run of a backfill to come.
NO_RUN_LEFT = """t.state in ('DONE', 'ERROR') and t.due_at is null and t.attempt_began_at is not null
       and t.backfill is null"""

# Nor has it a pending delivery.
SETTLED = f"""{NO_RUN_LEFT}
       and not exists (select from longshore.run_deliveries d where d.task_id = t.id and d.state = 'pending')"""
