"""Numbers of rules keep each digit on their way through the client and the commands."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from longshore import F, Longshore
from longshore.client import NoAnswerError
from longshore.client.model import Run
from longshore.client.requests import Answer
from tests.client.conftest import Cli

FUTURE = datetime(2099, 1, 1, tzinfo=UTC)
NUMBER = "12345678901234567.89"
"""A number that no float holds."""


def text_of(client: Longshore, path: str) -> str:
    """Return an answer as the service sent it."""
    with client.stream("GET", path) as answer:
        return b"".join(answer.chunks).decode()


def test_changed_trigger_keeps_each_digit_of_its_rules(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", where=F("amount") > Decimal(NUMBER), at=FUTURE)
    task.change(trigger={**task.refresh().data.trigger, "once": "2099-02-01T00:00:00Z"})
    assert f":{NUMBER}" in text_of(longshore, f"/tasks/{task.id}")
    assert task.data.trigger["segment"]["rules"][0]["value"] == Decimal(NUMBER)
    read = longshore.request("GET", f"/tasks/{task.id}")
    assert read["trigger"] == task.data.trigger
    task.delete()


def test_replaced_segment_keeps_each_digit_of_its_rules(longshore: Longshore) -> None:
    stored = longshore.segments.create("large", "wallet-ledger", F("amount") > Decimal(NUMBER))
    assert stored.segment is not None
    longshore.segments.replace(stored.id, "larger", "wallet-ledger", stored.segment)
    assert f":{NUMBER}" in text_of(longshore, f"/segments/{stored.id}")
    longshore.segments.delete(stored.id)


def test_run_has_each_digit_of_its_rules_and_its_seconds_as_a_float() -> None:
    body = '{"run": 1, "state": "DONE", "attempts": 1, "began": "2026-05-26T12:00:00Z", "seconds": 1.5, '
    run = Answer(200, {}, f'{body}"segment": {{"rules": [{{"value": {NUMBER}}}]}}}}'.encode()).expect(Run)
    assert run.segment["rules"][0]["value"] == Decimal(NUMBER)
    assert isinstance(run.seconds, float)


def test_number_with_an_impossible_exponent_is_no_answer_of_the_service() -> None:
    with pytest.raises(NoAnswerError, match="the answer is not Longshore's"):
        Answer(200, {}, b'{"a": 1e99999999999999999999}').expect(object)


def test_numbers_with_a_point_are_decimals_where_no_type_is_declared_and_floats_elsewhere(longshore: Longshore) -> None:
    preview = longshore.segments.preview("wallet-ledger", F("amount") > 0, fields=["id", "amount"])
    assert {type(row["amount"]) for row in preview.sample} <= {Decimal, int}
    assert isinstance(preview.seconds, float)


@pytest.mark.parametrize("at", ["file", "standard input"])
def test_segment_of_the_command_line_keeps_each_digit(logged_in: Cli, longshore: Longshore, at: str) -> None:
    rule = f'{{"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": {NUMBER}}}'
    segment = f'{{"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": [{rule}]}}'
    Path("rules.json").write_text(segment)
    options = ("--input", "rules.json" if at == "file" else "-")
    id = logged_in("segments", "create", "large", "--index", "wallet-ledger", *options, typed=segment)[1].strip()
    assert f":{NUMBER}" in text_of(longshore, f"/segments/{id}")
    shown = logged_in("segments", "get", id)[1]
    assert json.loads(shown, parse_float=str)["segment"]["rules"][0]["value"] == NUMBER
    longshore.segments.delete(id)
