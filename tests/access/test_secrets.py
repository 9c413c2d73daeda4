"""Nothing secret is written anywhere in clear: every secret of a run, looked for in its logs and its database."""

import base64
import contextlib
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyotp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from longshore.access import one_time_codes
from longshore.access.tokens import Level
from longshore.database.embedded_server import programs
from tests.access.users import headers_of, new_user
from tests.receiver import receiving
from tests.service import CHAIN, Longshore, ended, export_body


def spellings(secret: str | bytes) -> set[bytes]:
    """A secret as it may be written: as it is, in hexadecimal, in either kind of base64."""
    plain = secret.encode() if isinstance(secret, str) else secret
    coded = {base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    return {plain, plain.hex().encode(), *(code.rstrip(b"=") for code in coded)}


def everything_in(url: str) -> bytes:
    """The whole database as SQL text, the queue's tables and the server's settings too."""
    dump = subprocess.run([programs() / "pg_dump", "--inserts", url], capture_output=True, timeout=60)
    assert dump.returncode == 0, dump.stderr
    assert b"INSERT INTO longshore.audit " in dump.stdout
    return dump.stdout


def secrets_of_others(client: httpx2.Client) -> dict[str, str | bytes]:
    """The secrets of a webhook, a destination and a task, each used, tested and refused; by what they are."""
    made: dict[str, str | bytes] = {}
    with receiving() as receiver:
        webhook = client.post("/webhooks", json={"chain": CHAIN, "url": receiver.url}).json()
        made["a webhook's secret"] = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
        rotated = client.post(f"/webhooks/{webhook['id']}/secret").json()
        made["a webhook's second secret"] = base64.b64decode(rotated["secret"].removeprefix("whsec_"))
        made["a secret header"] = secret = secrets.token_urlsafe(24)
        target = {"action": "http", "url": f"{receiver.url}/a", "secret_headers": {"Authorization": secret}}
        receiver.answers.put(404)
        task = {"chain": CHAIN, "desc": "", "trigger": {"once": "2026-05-26T12:00:00Z"}, "target": target}
        key = {"Idempotency-Key": "of a task with a secret"}
        id = client.post("/tasks", json=task, headers=key).json()["id"]
        ended(client, id)
        while receiver.next().path == "/a":  # then the message of the webhook
            pass
        made["a second secret header"] = secret = secrets.token_urlsafe(24)
        target["secret_headers"] = {"Authorization": secret, "X-New": None}
        assert client.patch(f"/tasks/{id}", json={"target": target}).status_code == 400
    for what in ("a destination's secret", "a changed secret", "a tested secret", "a secret of a kind that fails"):
        made[what] = secrets.token_urlsafe(24)
    first, changed, tested, failing = list(made.values())[-4:]
    body = {"name": "shelf", "kind": "memory", "settings": {"shelf": "top"}, "secret": {"password": first}}
    path = f"/destinations/{client.post('/destinations', json=body, headers={'Idempotency-Key': 'x'}).json()['id']}"
    assert client.post(f"{path}/test").json()["ok"] is False
    assert client.patch(path, json={"secret": {"password": changed}}).status_code == 200
    assert client.post("/destinations/test", json={**body, "secret": {"password": tested}}).status_code == 200
    broken = {**body, "settings": {"shelf": "broken"}, "secret": {"password": failing}}
    assert client.post("/destinations/test", json=broken).json()["steps"][0]["step"] == "test"
    return made


def secrets_of_kinds(client: httpx2.Client) -> dict[str, str | bytes]:
    """Secrets of the kinds that come along: stored, and where their address can be on loopback, tested to fail."""
    made: dict[str, str | bytes] = {}

    def secret(what: str) -> str:
        made[what] = value = secrets.token_urlsafe(30)
        return value

    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    sftp = {"host": "127.0.0.1", "port": 1, "username": "anna", "host_key": public.decode()}
    pem = "{}\n" + private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    made["an account's key"] = key = base64.b64encode(secrets.token_bytes(64)).decode()
    bodies = [
        ("s3", {"bucket": "exports", "endpoint": "http://127.0.0.1:1"},
         {"access_key_id": "AKID", "secret_access_key": secret("an access key"), "session_token": secret("a session")}),
        ("sftp", sftp, {"password": secret("a password of SFTP")}),
        ("sftp", sftp, {"private_key": pem.format(secret("a private key")), "passphrase": secret("a passphrase")}),
        ("postgresql", {"host": "127.0.0.1", "port": 1, "database": "x", "username": "x", "schema": "x"},
         {"password": secret("a password of PostgreSQL")}),
        ("az", {"account": "acme", "container": "exports"}, {"account_key": key}),
    ]  # fmt: skip
    for number, (kind, settings, given) in enumerate(bodies):
        body = {"name": f"kind-{number}", "kind": kind, "settings": settings, "secret": given}
        assert client.post("/destinations", json=body).status_code == 201
        if kind != "az":  # its address is not on loopback
            assert client.post("/destinations/test", json=body).json()["ok"] is False
    return made


def failing_secrets(service: Longshore, client: httpx2.Client) -> Iterator[tuple[str, str]]:
    """Send secrets to endpoints whose table is gone, so that each is in a request that ends in a 500."""
    bodies: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
        "destinations": (
            "/destinations",
            lambda secret: {
                "name": "x",
                "kind": "memory",
                "settings": {"shelf": "top"},
                "secret": {"password": secret},
            },
        ),
        "task_secrets": (
            "/tasks",
            lambda secret: {
                "chain": CHAIN,
                "desc": "",
                "trigger": {"once": "2126-05-26T12:00:00Z"},
                "target": {"action": "http", "url": "http://127.0.0.1:9/", "secret_headers": {"X-A": secret}},
            },
        ),
    }
    for table, (path, body_of) in bodies.items():
        secret = secrets.token_urlsafe(24)
        service.sql(f"alter table longshore.{table} rename to away")
        assert client.post(path, json=body_of(secret)).status_code == 500
        service.sql(f"alter table longshore.away rename to {table}")
        yield table, secret


def test_no_secret_of_a_run_is_in_its_logs_or_database(new_service: Callable[..., Longshore]) -> None:
    given = secrets.token_urlsafe(32)
    service = new_service(rows=100, secret=given, log_level="debug", outbound_allow="127.0.0.1")
    service.start("worker")
    # JSON has no place for the values of variables, what a terminal shows might have.
    service.start_api(log_format="console")
    made: dict[str, str | bytes] = {"the setting": given}

    token = service.token(Level.ADMIN)
    made["a token"] = token.split(":")[1]
    bearer = {"Authorization": f"Bearer {token}"}
    first, second = "the first of two passwords", "the second of two passwords"
    with httpx2.Client(base_url=service.address, headers=bearer, timeout=60) as client:
        made["a password"] = first
        body = {"username": "anna", "password": first, "level": "write"}
        user = client.post("/users", json=body).json()["id"]
        owner = client.post("/service_clients", json={"name": "warehouse"}).json()["id"]
        issued = client.post("/access_tokens", json={"client_id": owner, "level": "read"}).json()
        made["a token that an admin made"] = issued["secret"]
        theirs = {"Authorization": f"Bearer {issued['id']}:{issued['secret']}"}
        assert client.get("/tasks", headers=theirs).status_code == 200
        task = client.post("/tasks", json=export_body()).json()["id"]
        ended(client, task)
        url = client.get(f"/tasks/{task}/download_url").json()["url"]
        assert httpx2.get(url).status_code == 200
        made["a signature"] = parse_qs(urlsplit(url).query)["signature"][0]
        httpx2.get(url + "x")
        made |= secrets_of_others(client)
        made |= secrets_of_kinds(client)

    login = {"username": "anna", "password": first}
    opened = httpx2.post(f"{service.address}/auth/login", json=login).json()
    made["a session key"] = opened["session_key"]
    made["a new password"] = second
    change = {"password": first, "new_password": second}
    mine = headers_of(opened)
    assert httpx2.post(f"{service.address}/auth/password", json=change, headers=mine).status_code == 204
    other = new_user(service, totp=False, _1764=Level.READ)
    secret = one_time_codes.new_secret()
    sealed = one_time_codes.seal(service.vault, other.id, secret)
    service.sql("update longshore.users set totp_secret = $2 where id = $1", other.id, sealed)
    made["a passcode's secret"] = secret
    made["its bytes"] = base64.b32decode(secret)
    attempt = other.sign_in().json()["attempt_id"]
    answer = {"attempt_id": attempt, "passcode": pyotp.TOTP(secret).now()}
    made["another session key"] = httpx2.post(f"{service.address}/auth/session", json=answer).json()["session_key"]

    # Failures are logged, so they have to occur with secrets in them.
    typed = "a password typed as a name"
    made["a password in the wrong field"] = typed
    httpx2.post(f"{service.address}/auth/login", json={"username": typed, "password": "wrong horse battery"})
    made["a wrong password"] = "wrong horse battery"
    with httpx2.Client(base_url=service.address, headers=bearer, timeout=60) as client:
        made |= {f"{what}, while its table is broken": secret for what, secret in failing_secrets(service, client)}
    for broken in ("alter table longshore.sessions rename to away", "alter table longshore.away rename to sessions"):
        service.sql(broken)
        login = {"username": "anna", "password": second}
        httpx2.post(f"{service.address}/auth/login", json=login)
        httpx2.get(f"{service.address}/tasks", headers=mine)
    with contextlib.suppress(httpx2.TransportError):
        httpx2.post(f"{service.address}/auth/login", content=f'{{"username": "anna", "password": "{second}"')

    database = everything_in(service.url)
    service.stop()
    files = {"the service's log": service.log_file.read_bytes(), "the database": database}
    server = service.data / "postgres" / "log"
    files["the server's log"] = server.read_bytes() if server.is_file() else b""
    assert b"Traceback" in files["the service's log"], "what went wrong was not logged at all"
    for what, secret_ in made.items():
        for where, content in files.items():
            for spelling in spellings(secret_):
                assert spelling not in content, f"{what} is in {where}"

    # The key that signs addresses has to be in the database, so that all processes sign alike; it is nowhere else.
    key = bytes(re.search(rb"keys VALUES \('signing', '\\x([0-9a-f]{64})'\)", database)[1])  # type: ignore[index]
    for where in ("the service's log", "the server's log"):
        for spelling in spellings(bytes.fromhex(key.decode())):
            assert spelling not in files[where], f"the signing key is in {where}"
    assert user
