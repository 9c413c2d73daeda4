"""How long results are kept: the service's time, a chain's or a target's, whichever is shortest."""

import pytest

from tests.service import Longshore, ended, export_body

KEPT = """
select round(extract(epoch from expires_at - ended_at) / 86400, 3)::float8 from longshore.runs where task_id = $1
"""


@pytest.mark.parametrize(
    ("chain", "days", "kept"), [(1765, None, 7), (1765, 1.5, 1.5), (9, None, 2), (9, 3, 2), (9, 1, 1)]
)
def test_a_result_is_kept_for_the_shortest_time_that_is_asked_for(
    service: Longshore, chain: int, days: float | None, kept: float
) -> None:
    body = export_body(chain=chain)
    if days is not None:
        body["target"]["result_days"] = days
    with service.client(chain=chain) as client:
        task = ended(client, client.post("/tasks", json=body).json()["id"])["id"]
    assert service.sql(KEPT, task)[0][0] == kept
