"""Pauses and blocking calls of the client whose methods are awaited; `blocking.concurrency` has those of the other."""

import asyncio

sleep = asyncio.sleep
in_thread = asyncio.to_thread  # a blocking call must not hold the event loop
