"""The client's address, as the proxies in front of the service name it, and its session's cookie."""

import ipaddress

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.api.proxies import forwarded_peer, node
from tests.access.users import new_user
from tests.answers import problem
from tests.service import Longshore

TRUSTED = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "2001:db8:1::/48")]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.9", "203.0.113.9"), (" 203.0.113.9:4711 ", "203.0.113.9"), ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"), ("2001:db8::1", "2001:db8::1"), ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ("unknown", None), ("_hidden", None), ("", None), ("203.0.113", None), ("203.0.113.9:x", None), ("[", None),
        ("203.0.113.9:999999", None), ("[203.0.113.9]x", None), ("fe80::1%eth0", None), ("1.2.3.4, 5.6.7.8", None),
    ],
)  # fmt: skip
def test_entry_of_forwarded_for_is_read_with_and_without_a_port(text: str, address: str | None) -> None:
    assert node(text) == (address and ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["198.51.100.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9:99, 10.1.2.3:443"], "203.0.113.9"),
        (["198.51.100.1, [2001:db8::7]:99", "[2001:db8:1::1]:443"], "2001:db8::7"),
        (["203.0.113.9, unknown, 10.1.2.3"], None),
        (["203.0.113.9, , 10.1.2.3,"], "203.0.113.9"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        ([""], None), ([], None), (["203.0.113.9," + "10.1.2.3," * 200], "10.1.2.3"),
    ],
)  # fmt: skip
def test_client_is_the_first_address_behind_the_trusted_proxies(lines: list[str], client: str | None) -> None:
    assert forwarded_peer(lines, TRUSTED) == (client and ipaddress.ip_address(client))


def test_only_the_exact_host_cookie_is_a_session_over_tls(proxied_service: Longshore) -> None:
    user = new_user(proxied_service, _1764=Level.READ)
    session = user.session()
    value = f"{session['X-Session-User-Id']}.{session['X-Session-Key']}".encode()

    def get_through_proxy(name: bytes, number: int) -> httpx2.Response:
        forwarded = {b"X-Forwarded-For": f"2001:db8:7:{number}::1".encode(), b"X-Forwarded-Proto": b"https"}
        return httpx2.get(
            f"{proxied_service.address}/auth/sessions", headers={**forwarded, b"Cookie": name + b"=" + value}
        )

    for number, name in enumerate(
        (b"longshore", b"\xa0__Host-longshore", b"__host-longshore", b"\x85__Host-longshore")
    ):
        problem(get_through_proxy(name, number), "unauthorized")
    assert get_through_proxy(b"a=b; __Host-longshore", 9).status_code == 200
