"""Idempotency keys in the database: one that expires while a request with it is carried out."""

import asyncio
from typing import Any

import pytest

from longshore.database.connect import Connection, Pool
from longshore.tasks import idempotency
from longshore.tasks.idempotency import Claim, StoredAnswer
from longshore.tasks.model import ChainId

CHAIN = ChainId(501)


def test_key_that_expires_after_its_claim_was_refused_is_claimed_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = idempotency.find

    async def find_later(*args: Any) -> Any:
        await asyncio.sleep(1)
        return await find(*args)

    async def make(_: Connection) -> StoredAnswer:
        return StoredAnswer(None, b"new")

    async def test(pool: Pool) -> None:
        old = """
        insert into longshore.idempotency_keys (chain_id, key, body_sha256, answer, created_at)
        values ($1, 'expiring', '', 'old', now() - interval '24 hours' + interval '0.5 seconds')
        """
        await pool.execute(old, CHAIN)
        monkeypatch.setattr(idempotency, "find", find_later)
        claim = Claim(CHAIN, "expiring", b"", [b""])
        assert await idempotency.once(pool, claim, make) == (StoredAnswer(None, b"new"), False)
        assert await idempotency.once(pool, claim, make) == (StoredAnswer(None, b"new"), True)
        await pool.execute("delete from longshore.idempotency_keys where chain_id = $1", CHAIN)

    run(test)
