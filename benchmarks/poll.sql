-- $1 chain, $2 number of tasks: exports that are DONE, each with the three log entries that such a run leaves behind.
with numbers as (
    select n, timestamptz '2026-05-01 06:00:00+00' + n * interval '7.123456 seconds' as at
    from generate_series(1, $2::bigint) n
),
tasks as (
    insert into longshore.tasks
        (id, chain_id, description, action, trigger, target, debug, state, result, attempt_began_at, run, revision,
         log_length, created_at, modified_at, last_run_at)
    overriding system value
    select n, $1, 'Wallet ledger export ' || n || ' for analytics warehouse', 'export',
           '{"once":"2026-05-26T12:00:00Z"}',
           '{"action":"export","export_index":"wallet-ledger","export_format":"csv"}',
           '', 'DONE', 'Wallet_Export-' || n || '.csv', at, 1, 3,
           3, at - interval '1 minute', at + interval '2 seconds', at
    from numbers
)
insert into longshore.task_logs (task_id, seq, at, msg, total, success, skips, errors)
select n, seq, at + after, msg, counted, counted, zero, zero
from numbers,
    (values
        (0, interval '0 seconds', 'READY -> INPROGRESS', null::bigint, null::bigint),
        (1, interval '2 seconds', 'success', 1000000, 0),
        (2, interval '2 seconds', 'INPROGRESS -> DONE', null, null)
    ) as entries (seq, after, msg, counted, zero)
