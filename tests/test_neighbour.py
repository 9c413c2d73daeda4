"""While one chain does its worst, another chain's polls, previews, deliveries and runs end, and in their turn.

How long they take is measured by `make neighbour`.
"""

from collections.abc import Iterator

import pytest

from tests.neighbour.quiet import QuietChain
from tests.neighbour.worst import BEHAVIORS
from tests.neighbour.worst_chain import StoredTasks, WorstChain
from tests.receiver import receiving
from tests.service import Longshore, further_api

QUIET_CHAIN, WORST_CHAIN = 1765, 9
BOUNDS = {
    "credential_open_requests": "20",
    "chain_open_requests": "30",
    "chain_stored_tasks": "210",
    "chain_task_megabytes": "2",
}
OPENED = 40
STORED = {"many tasks at once": StoredTasks(due=200), "a full quota": StoredTasks(large=39)}
# Of the chain that does its worst, what has not had its turn yet.
BEHIND = {
    "many tasks at once": "select count(*) from longshore.tasks where parked and chain_id = $1",
    "silent receivers": """
        select count(*) from longshore.webhook_deliveries d join longshore.webhooks w on w.id = d.webhook_id
        where w.chain_id = $1 and d.attempts = 0
    """,
}
SIMILAR = ("right sign-ins", "slow receivers")  # bounded as one of the others is


@pytest.fixture(scope="module")
def bounded(service: Longshore) -> Iterator[Longshore]:
    """The service once more, with low bounds; its workers are those of `service`."""
    with further_api(service, "neighbour", outbound_allow="127.0.0.1", **BOUNDS) as longshore:
        yield longshore


@pytest.fixture(scope="module")
def quiet(bounded: Longshore) -> Iterator[QuietChain]:
    with receiving() as receiver:
        chain = QuietChain(bounded, QUIET_CHAIN, receiver)
        yield chain
        chain.close()


@pytest.fixture(scope="module")
def worst(bounded: Longshore) -> WorstChain:
    return WorstChain(bounded, WORST_CHAIN, STORED, OPENED)


@pytest.mark.parametrize("behavior", [name for name in BEHAVIORS if name not in SIMILAR])
def test_one_chain_at_its_worst_is_refused_and_another_chain_is_answered_in_its_turn(
    bounded: Longshore, quiet: QuietChain, worst: WorstChain, behavior: str
) -> None:
    with worst.doing(behavior):  # which has been refused something, or the other chain's deliveries wait
        quiet.measure(0)  # which fails for any other answer than the expected ones
        if behavior in BEHIND:
            assert bounded.sql(BEHIND[behavior], WORST_CHAIN)[0]["count"] > 0, "the other chain had to wait for all"
