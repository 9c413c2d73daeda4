"""No request holds the event loop: the processor time that the worst requests of every endpoint take in it."""

import asyncio
from collections import Counter

import pytest

from longshore.api.routes import NEEDED
from tests import worst_requests
from tests.event_loop import MAX_SECONDS
from tests.service import Longshore
from tests.worst_requests import RequestTime


@pytest.fixture(scope="module")
def took(service: Longshore) -> list[RequestTime]:
    """All requests, on the data of the shared service, by an application of this process."""
    return asyncio.run(worst_requests.measure(service.url, str(service.data)))


def test_no_request_takes_more_than_50_ms_of_the_event_loop(took: list[RequestTime]) -> None:
    assert [each for each in sorted(took, reverse=True) if each.seconds > MAX_SECONDS] == []


def test_the_largest_and_oddest_requests_of_every_endpoint_are_answered_without_an_error_of_the_service(
    took: list[RequestTime],
) -> None:
    assert {(each.method, each.endpoint) for each in took} >= set(NEEDED)
    assert [each for each in took if each.status >= 500 and each.status != 503] == []
    statuses = Counter(each.status for each in took)
    assert min(statuses[200], statuses[201], statuses[400]) >= 15, "the bodies are good ones, too"
