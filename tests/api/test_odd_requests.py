"""Made-up bytes on the socket are never answered with 5xx, without a credential and with one."""

from longshore.access.tokens import Level
from tests.odd_requests import count_answers, odd_requests
from tests.service import Longshore


def test_random_bytes_are_never_answered_with_5xx(idle_service: Longshore) -> None:
    bearer = f"Authorization: Bearer {idle_service.token(Level.ADMIN)}"
    found = count_answers(idle_service.port, odd_requests(1, 400, bearer))
    assert {200, 400, 401, 404, 405} <= found.keys(), found
