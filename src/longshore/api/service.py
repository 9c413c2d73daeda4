"""The resources of an API process: opened when it starts, closed when it ends."""

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request

from longshore import actions, destinations
from longshore.access.open_requests import OpenRequests, recheck_open_requests
from longshore.access.rate_limits import RateLimiter, open_rates
from longshore.access.sessions import Lifetimes, Sessions
from longshore.access.sign_in import SignIn
from longshore.access.token_auth import TokenAuth
from longshore.database import migrate
from longshore.database.connect import Pool, open_fair_pool, open_pool
from longshore.database.retry import retry_until_available
from longshore.destinations.stored import Destinations
from longshore.exports import catalog
from longshore.exports.catalog import Catalog
from longshore.exports.snapshot import EXPORT_SESSION
from longshore.fair_queue import FairQueue, QueueLimits
from longshore.parent_process import end_with_parent
from longshore.process_list import listed_while_running
from longshore.results.download_signatures import DownloadSigner, download_key
from longshore.results.open import open_store
from longshore.results.store import Store
from longshore.settings import Rate, Settings
from longshore.tasks import quotas
from longshore.tasks.batched_reads import BatchedReads
from longshore.tasks.queue_metrics import QueueMetricsCollector
from longshore.tasks.quotas import Usage
from longshore.tasks.slots import SETTING as SLOTS
from longshore.tasks.waiters import RELEASE_SIGNAL, Waiters
from longshore.telemetry import tracing
from longshore.telemetry.metrics import export_pool_metrics
from longshore.vault import Vault, open_vault

log = structlog.get_logger()

AnyRequest = Request[Any, Any, Any]

RESTART_SECONDS = 5.0
POOL_SIZE = 10  # connections of one API process
CONNECTIONS = POOL_SIZE + 1  # of one process to the service's database: the pool, and one that listens
# A chain may use half of the connections for chains. Two are left for work of no chain: credentials, sign-ins, and
# polls, which are read together.
POOL_LIMITS = QueueLimits(running=8, running_of_key=4, waiting=4_000, waiting_of_key=1_000, seconds=15.0)
MAX_OPEN_REQUESTS = 8_000  # of the 10,000 connections of an API process; the rest is for requests answered at once
SOURCE_SIZE = 2  # read-only connections of one API process to the source, for previews

# A chain may use one of them at a time, so that no chain has all.
PREVIEW_LIMITS = QueueLimits(running=SOURCE_SIZE, running_of_key=1, waiting=40, waiting_of_key=4, seconds=15.0)

TEST_LIMIT = "destination tests"
TEST_RATE = Rate(30, 60)  # of a chain
# A test may last, and holds connections to servers of the chain's choice.
TEST_LIMITS = QueueLimits(running=8, running_of_key=2, waiting=32, waiting_of_key=8, seconds=15.0)


class Service(msgspec.Struct, frozen=True):
    """The settings, connections, queues and registries that the endpoints of one API process share."""

    settings: Settings
    pool: Pool
    source: Pool
    """Read-only connections to the source."""
    token_auth: TokenAuth
    sessions: Sessions
    sign_in: SignIn
    rate_limiter: RateLimiter
    open_requests: OpenRequests
    previews: FairQueue
    """The queue for the source's connections, by chain."""
    waiters: Waiters
    batched_reads: BatchedReads
    catalog: Catalog
    actions: Mapping[str, actions.Action]
    vault: Vault
    destinations: Destinations
    destination_tests: FairQueue
    """The queue for tests of destinations, by chain."""
    quotas: Usage
    """The quotas of each chain."""
    figures: QueueMetricsCollector
    signer: DownloadSigner
    store: Store


@contextlib.asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open the resources of a process. Raises LongshoreError if the database is not at this version."""
    source_url = settings.source_url or settings.database_url
    slots = {SLOTS: str(settings.chain_slots)}
    read_only = {**EXPORT_SESSION, "default_transaction_read_only": "on"}
    async with (
        contextlib.AsyncExitStack() as stack,
        open_fair_pool(settings.database_url, POOL_LIMITS, size=POOL_SIZE, name="longshore api", **slots) as pool,
        open_pool(source_url, size=SOURCE_SIZE, name="longshore preview", **read_only) as source,
    ):
        await retry_until_available(migrate.check_schema, pool)
        stack.enter_context(export_pool_metrics(api=pool, preview=source))
        vault = open_vault(settings)
        lifetimes = Lifetimes(settings.session_idle, settings.session_life)
        sessions = Sessions(pool, lifetimes)
        open_limits = {
            "credential": settings.credential_open_requests,
            "chain": settings.chain_open_requests,
            "address": settings.address_open_requests,
            "service": MAX_OPEN_REQUESTS,
        }
        async with (
            Waiters(pool, settings.database_url) as waiters,
            open_rates(pool, {**settings.rates, TEST_LIMIT: TEST_RATE}) as rate_limiter,
            recheck_open_requests(pool, lifetimes, open_limits) as open_requests,
            listed_while_running(pool, "api", await asyncio.to_thread(vault.prefixes)),
        ):
            yield Service(
                settings=settings,
                pool=pool,
                source=source,
                token_auth=TokenAuth(pool),
                sessions=sessions,
                sign_in=SignIn(pool, sessions, vault),
                rate_limiter=rate_limiter,
                open_requests=open_requests,
                previews=FairQueue("previews", PREVIEW_LIMITS),
                waiters=waiters,
                batched_reads=BatchedReads(pool),
                catalog=catalog.load(settings.catalog),
                actions=actions.load(settings),
                vault=vault,
                destinations=Destinations(pool, destinations.load(settings), vault, settings),
                destination_tests=FairQueue("tests of destinations", TEST_LIMITS),
                quotas=quotas.from_settings(settings),
                figures=QueueMetricsCollector(pool),
                signer=DownloadSigner(await retry_until_available(download_key, pool)),
                store=open_store(settings),
            )


@contextlib.asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Keep the service open while the application runs."""
    async with tracing.exporting("api"), contextlib.AsyncExitStack() as stack:
        try:
            service = await stack.enter_async_context(open_service(app.state.settings))
        except Exception as error:
            log.error("the API process cannot start", error=str(error), again_in=RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)  # Granian starts another at once
            raise
        app.state.service = service
        if (main := multiprocessing.parent_process()) is not None and main.pid:
            end_with_parent(main.pid, RELEASE_SIGNAL, signal.SIGTERM)
        yield
