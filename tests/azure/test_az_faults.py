"""Files for Azure Blob Storage, whose service refuses requests, hangs and loses connections, as in `tests/faults`."""

import asyncio
import random
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit

from longshore.destinations.az import az_kind
from tests.azure.test_az_destination import azurite  # noqa: F401  # a fixture
from tests.azure.test_azure import ACCOUNT, CONTAINER, KEY
from tests.destinations.front import Front, ProxiedRequest, ProxyReply
from tests.destinations.servers import SampleDestination
from tests.faults.test_destinations import (
    FILES,
    deliver_all,
    deliveries,
    impatient,  # noqa: F401  # a fixture
    random_faults,
    seed,  # noqa: F401  # a fixture
)


def test_each_file_is_written_to_azure_once_whatever_fails(seed: int, azurite: str) -> None:  # noqa: F811  # fixtures
    source = random.Random(seed)
    files = deliveries(source)
    parts = urlsplit(azurite)
    refusals = [ProxyReply(503), ProxyReply(500), ProxyReply(429)]
    front = Front((str(parts.hostname), int(parts.port or 0)), random_faults(source, refusals))
    settings = {"account": ACCOUNT, "container": CONTAINER, "prefix": f"faults-{seed}"}
    made = SampleDestination(az_kind(f"{front.address}/{{account}}"), settings, {"account_key": KEY})
    try:
        failed = asyncio.run(deliver_all(made, files))
        front.rule = lambda _: None
        assert [made.read(delivery.path) == delivery.file.content for delivery in files] == [True] * FILES
        written = Counter(key for seen in front.succeeded if (key := made_key(seen)))
        assert len(written) == FILES
        assert {key: times for key, times in written.items() if times > 1} == {}
        assert len(front.seen) > len(front.succeeded), "some requests failed"
        print(f"{len(front.seen)} requests, {failed} tries failed")
    finally:
        front.close()


def made_key(seen: ProxiedRequest) -> str | None:
    """The key of the blob that a request makes, if it makes one: of a large one by the list of its blocks."""
    target = urlsplit(seen.target)
    makes = parse_qs(target.query).get("comp", ["blocklist"]) == ["blocklist"]
    return unquote(target.path) if seen.method == "PUT" and makes else None
