"""Numbers of rules have all their digits in manifests, and are numbers there."""

import re

import httpx2
import msgspec

from longshore.console.run import MANIFEST, SEGMENT
from longshore.exports.segments import describe
from tests.service import CHAIN

DIGITS = "0.1234567890123456789012345678901234567890"


def test_number_of_a_rule_keeps_its_digits_in_manifests_and_runs_also_when_delivered_again(
    client: httpx2.Client,
) -> None:
    given = msgspec.Raw(DIGITS.encode())
    rules = [
        {"field_name": "version", "field_type": "number", "operator": "is_less_than", "value": given},
        {"field_name": "version", "field_type": "number", "operator": "is_one_of", "value": [given, 10.5]},
        {"field_name": "id", "field_type": "number", "operator": "is_between_number", "min": given, "max": 7},
    ]
    segment = {"entity": "people", "index": "entries", "join": "any", "chain_id": CHAIN, "rules": rules}
    trigger = {"once": "2199-01-01T00:00:00Z", "segment": segment}
    target = {"action": "export", "export_index": "entries", "export_format": "csv", "incremental": "on_ack"}
    body = msgspec.json.encode({"chain": CHAIN, "desc": "", "target": target, "trigger": trigger})
    task = client.post("/tasks", content=body, headers={"Content-Type": "application/json"}).json()["id"]
    for run in (1, 2):
        assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
        manifest = client.get(f"/tasks/{task}/runs/{run}/manifest").text
        listed = client.get(f"/tasks/{task}/runs").text
        for text in (manifest, listed):
            assert re.search(rf'"value":\s*{DIGITS}', text), (run, text)
            assert re.search(rf"\[\s*{DIGITS},\s*10\.5\s*\]", text), (run, text)
            assert re.search(rf'"min":\s*{DIGITS}', text), (run, text)
        written = MANIFEST.decode(manifest)
        assert describe.of_resolved(written.segment)[0] == f"version is less than {DIGITS}"
        assert describe.of_resolved(SEGMENT.decode(listed)[0]["segment"])[0] == f"version is less than {DIGITS}"
