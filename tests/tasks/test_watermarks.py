"""Acknowledgements that are refused: the answer names the reason."""

import json
from typing import Any

import pytest

from longshore.database.connect import Pool
from longshore.errors import ProblemError
from longshore.tasks import watermarks
from longshore.tasks.model import ChainId, TaskId

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, watermark, run)
values ($1, '', 'export', '{}', $2, '', 'DONE', '2', 1) returning id
"""
RUN = """
insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at, attempt_began_at, progress_at,
                            watermark_from, watermark_to, acknowledged)
values ($1, 1, 'DONE', 1, 1, now(), now(), now(), '1', $2, $3)
"""


async def refusal(pool: Pool, incremental: object, end: str | None, *, acknowledged: bool | None, full: bool) -> str:
    task = TaskId(await pool.fetchval(TASK, CHAIN, json.dumps({"incremental": incremental})))
    await pool.execute(RUN, task, end, acknowledged)
    if full:
        async with pool.acquire() as connection:
            await watermarks.reset(connection, CHAIN, task, "user 7")
    with pytest.raises(ProblemError) as refused:
        await watermarks.acknowledge(pool, CHAIN, task, 1)
    assert refused.value.kind == "nothing-to-acknowledge"
    return refused.value.detail or ""


def test_refused_acknowledgement_names_the_true_reason(run: Any) -> None:
    async def test(pool: Pool) -> None:
        reset = await refusal(pool, "on_ack", "3", acknowledged=False, full=True)
        assert "a full run was requested after it" in reset
        moved = await refusal(pool, "on_ack", "3", acknowledged=False, full=False)
        assert moved == "Run 1 waits no more: another run has moved the watermark."
        never = await refusal(pool, True, "3", acknowledged=None, full=False)
        assert "the target has no `incremental: on_ack`" in never
        whole = await refusal(pool, "on_ack", None, acknowledged=None, full=False)
        assert whole == "Run 1 is no increment: it ran before the target had `incremental`."

    run(test)
