"""Webhooks at addresses that the service must not call, in a network namespace that nothing leaves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers import violations
from tests.receiver import PORT_IN_NAMESPACE
from tests.service import CHAIN, Longshore, database_in, export_body
from tests.waiting import until

# Both are of the range that RFC 2544 keeps for tests, and exist in the namespace alone. The operator allows one.
ALLOWED, REFUSED = "198.18.0.1", "198.18.1.1"
HOSTS = f"""{ALLOWED} allowed.test
{REFUSED} refused.test
{ALLOWED} mixed.test
{REFUSED} mixed.test
"""
NAMESPACE = """set -e
ip link set lo up
ip address add "$1/32" dev lo
ip address add "$2/32" dev lo
mount --bind "$3" /etc/hosts
exec "$4" -m tests.receiver
"""


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A receiver at both addresses in a namespace with no way out: its process, and the file of the paths it got."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces can be made by root alone")
    hosts, received = tmp_path / "hosts", tmp_path / "received"
    hosts.write_text(HOSTS)
    command = ["unshare", "--net", "--mount", "sh", "-c", NAMESPACE, "sh", ALLOWED, REFUSED, str(hosts)]
    with received.open("wb") as output:
        process = subprocess.Popen([*command, sys.executable], stdout=output)
    try:
        until(lambda: "listens" in received.read_text(), "the receiver")
        yield process.pid, received
    finally:
        process.terminate()
        process.wait(20)


def test_webhook_at_a_refused_address_is_not_called_and_its_delivery_says_why(
    receiver: tuple[int, Path], tmp_path: Path
) -> None:
    pid, received = receiver
    with database_in(tmp_path) as url:
        longshore = Longshore(tmp_path, url, outbound_allow="198.18.0.0/24")
        try:
            longshore.start_api()
            with longshore.client() as client:

                def webhook(host: str) -> str:
                    address = f"http://{host}:{PORT_IN_NAMESPACE}/{host}"
                    answer = client.post("/webhooks", json={"chain": CHAIN, "url": address})
                    assert answer.status_code == 201, answer.text
                    return str(answer.json()["id"])

                refused = f"http://{REFUSED}:{PORT_IN_NAMESPACE}/"
                answer = client.post("/webhooks", json={"chain": CHAIN, "url": refused})
                assert violations(answer) == {"/url": f"{REFUSED} is not a public address"}
                hooks = {host: webhook(host) for host in ("allowed.test", "refused.test", "mixed.test", ALLOWED)}
                # An address that was allowed when the webhook was made.
                longshore.sql("update longshore.webhooks set url = $1 where id = $2::uuid", refused, hooks[ALLOWED])
                client.post("/tasks", json=export_body())
                longshore.inside = ("nsenter", f"--target={pid}", "--net", "--mount")
                longshore.start("worker")

                def tried() -> dict[str, tuple[str, str | None]]:
                    found = {host: client.get(f"/webhooks/{id}/deliveries").json() for host, id in hooks.items()}
                    states = {host: (each[0]["state"], each[0]["error"]) for host, each in found.items() if each}
                    return {host: state for host, state in states.items() if state != ("pending", None)}

                until(lambda: len(tried()) == len(hooks), "the deliveries")
                why = "the host {} has an address that is not public"
                assert tried() == {
                    "allowed.test": ("delivered", None),
                    "refused.test": ("pending", why.format("refused.test")),
                    "mixed.test": ("pending", why.format("mixed.test")),
                    ALLOWED: ("pending", why.format(REFUSED)),
                }
        finally:
            longshore.stop()
    assert received.read_text().split() == ["listens", "/allowed.test"]
