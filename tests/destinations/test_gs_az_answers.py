"""Answers of Google Cloud Storage and Azure: each error names what to change, and nothing of the machine is sent."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from longshore.destinations.az import az, az_kind
from longshore.destinations.gs import gs, gs_kind
from longshore.destinations.gs_errors import reason_of
from longshore.destinations.http_client import StoreAnswer
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.settings import Settings
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, once
from tests.destinations.gcs import TokenService
from tests.destinations.servers import BytesFile, SampleDestination

KEY = base64.b64encode(b"a key of an account in azure").decode()
SAS = "sv=2021-12-02&ss=b&sp=racwdl&sig=of%2Fazure%3D"

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def front() -> Iterator[Front]:
    """A server that answers as a test says, and has nothing behind it."""
    found = Front(("127.0.0.1", 1))
    yield found
    found.close()


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenService]:
    service = TokenService()
    yield service
    service.close()


@pytest.fixture
def google(front: Front, tokens: TokenService) -> SampleDestination:
    return SampleDestination(
        gs_kind(front.address), {"bucket": "exports", "prefix": "in"}, {"service_account": tokens.account()}
    )


@pytest.fixture
def azure(front: Front) -> SampleDestination:
    kind = az_kind(f"{front.address}/{{account}}")
    return SampleDestination(kind, {"account": "shop", "container": "exports", "prefix": "in"}, {"account_key": KEY})


def google_error(status: int, reason: str) -> ProxyReply:
    return ProxyReply(status, {}, json.dumps({"error": {"code": status, "errors": [{"reason": reason}]}}).encode())


def azure_error(status: int, code: str) -> ProxyReply:
    return ProxyReply(status, {"x-ms-error-code": code}, f"<Error>StringToSign {code}</Error>".encode())


@pytest.mark.parametrize(
    ("reply", "step", "expected"),
    [
        (google_error(401, "authError"), "authenticate", "token"),
        (google_error(403, "forbidden"), "list", "storage.objects.list"),
        (google_error(404, "notFound"), "list", "bucket exports does not exist"),
        (google_error(403, "accountDisabled"), "list", "billing"),
        (google_error(429, "rateLimitExceeded"), "authenticate", "rateLimitExceeded"),
        (ProxyReply(502, {}, b"<html>"), "authenticate", "status 502"),
        (ProxyReply(307, {"Location": "http://169.254.169.254/"}), "list", "status 307"),
    ],
)
def test_answer_of_google_is_explained(
    google: SampleDestination, front: Front, reply: ProxyReply, step: str, expected: str
) -> None:
    front.rule = lambda seen: ProxyReply(200) if seen.method == "HEAD" else reply
    failed, detail = google.failure()
    assert (failed, expected in detail) == (step, True), detail


@pytest.mark.parametrize(
    ("method", "step", "expected"),
    [("POST", "write", "storage.objects.create"), ("DELETE", "delete", "storage.objects.delete")],
)
def test_right_that_google_misses_is_named(
    gcs_server: tuple[str, TokenService], method: str, step: str, expected: str
) -> None:
    host, port = gcs_server[0].removeprefix("http://").split(":")
    front = Front((host, int(port)), lambda seen: google_error(403, "forbidden") if seen.method == method else None)
    place = SampleDestination(
        gs_kind(front.address), {"bucket": "exports"}, {"service_account": gcs_server[1].account()}
    )
    failed, detail = place.failure()
    front.close()
    assert (failed, expected in detail) == (step, True), detail


def test_part_that_google_keeps_in_part_is_sent_on_from_there(gcs_server: tuple[str, TokenService]) -> None:
    host, port = gcs_server[0].removeprefix("http://").split(":")
    front = Front((host, int(port)), once(lambda seen: seen.method == "PUT", ProxyReply(503)))
    place = SampleDestination(
        gs_kind(front.address), {"bucket": "exports"}, {"service_account": gcs_server[1].account()}
    )
    file = BytesFile(bytes(9_000_000) + b"end")
    place.write("again.csv", file)
    assert place.read("again.csv") == file.content
    with pytest.raises(DestinationError, match=r"another file lies at gs://exports/again\.csv"):
        place.write("again.csv", BytesFile(b"other"))
    place.write("again.csv", BytesFile(b"other"), overwrite=True)
    assert place.read("again.csv") == b"other"
    front.close()


@pytest.mark.parametrize("generation", ["0", "7"])
def test_upload_to_google_replaces_only_the_object_that_was_found(
    google: SampleDestination, front: Front, generation: str
) -> None:
    found = ProxyReply(200, {}, json.dumps({"size": "3", "generation": generation}).encode())
    missing = google_error(404, "notFound")
    replies = {"GET": missing if generation == "0" else found, "POST": ProxyReply(412)}
    front.rule = lambda seen: replies[seen.method]
    with pytest.raises(DestinationUnavailableError, match="was written or removed meanwhile"):
        google.write("a.csv", BytesFile(b"x"), overwrite=True)
    began = [seen.target for seen in front.seen if seen.method == "POST"]
    assert [parse_qs(urlsplit(target).query)["ifGenerationMatch"] for target in began] == [[generation]]


def test_token_is_asked_for_once_and_not_shown(google: SampleDestination, front: Front, tokens: TokenService) -> None:
    front.rule = lambda _: google_error(403, "forbidden")
    before = tokens.given
    with pytest.raises(DestinationError) as failed:
        google.write("a.csv", BytesFile(b"x"))
    assert tokens.given == before + 1
    assert "a-token" not in str(failed.value)
    assert front.seen[-1].headers["authorization"] == "Bearer a-token"


def test_token_that_google_refuses_is_replaced_once(
    google: SampleDestination, front: Front, tokens: TokenService
) -> None:
    found = ProxyReply(200, {}, json.dumps({"size": "1", "generation": "7"}).encode())
    refusal = google_error(401, "authError")

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if len(front.seen) == 1 or (len(front.seen) == 3 and "alt=media" in seen.target):
            return refusal
        return ProxyReply(200, {}, b"x") if "alt=media" in seen.target else found

    front.rule = rule
    before = tokens.given
    google.write("a.csv", BytesFile(b"x"))
    assert (tokens.given - before, len(front.seen)) == (3, 4)
    front.rule = lambda _: refusal
    with pytest.raises(DestinationError, match="does not accept the service account's token"):
        google.write("a.csv", BytesFile(b"x"))
    assert len(front.seen) == 6


def test_address_of_the_token_service_has_any_letters(
    google: SampleDestination, front: Front, tokens: TokenService
) -> None:
    front.rule = lambda seen: ProxyReply(200) if seen.method == "HEAD" else google_error(403, "forbidden")
    account = {**tokens.account(), "token_uri": f"{tokens.address} of ü"}
    assert google.with_secret(service_account=account).failure()[0] == "list"
    assert front.seen[-1].headers["authorization"] == "Bearer a-token"


def test_service_account_that_google_does_not_know_is_named(
    google: SampleDestination, tokens: TokenService, front: Front
) -> None:
    other = TokenService()
    front.rule = lambda _: ProxyReply(200)
    step, detail = google.with_secret(service_account=tokens.account(other.key)).failure()
    other.close()
    assert (step, "service account" in detail, "invalid_grant" in detail) == ("authenticate", True, True)


@pytest.mark.parametrize(
    "account",
    ["", "{}", "no JSON", '{"type": "external_account", "client_email": "a", "private_key": "b"}',
     '{"type": "service_account", "client_email": "a", "private_key": "b"}'],
)  # fmt: skip
def test_text_that_is_no_key_file_is_a_violation(google: SampleDestination, account: str) -> None:
    settings, secret, allow = google.with_secret(service_account=account).values
    found = google.kind.check(settings, secret, allow)
    assert [violation.pointer for violation in found] == ["/secret/service_account"]
    assert google.with_secret(service_account=account).failure()[0] == "settings"


@pytest.mark.parametrize(
    ("reply", "step", "expected"),
    [
        (azure_error(403, "AuthenticationFailed"), "authenticate", "account_key"),
        (azure_error(403, "AuthorizationPermissionMismatch"), "list", "permission list (l)"),
        (azure_error(403, "AuthorizationFailure"), "list", "network rules"),
        (azure_error(404, "ContainerNotFound"), "list", "container exports does not exist"),
        (azure_error(403, "AccountIsDisabled"), "authenticate", "disabled"),
        (azure_error(503, "ServerBusy"), "authenticate", "ServerBusy"),
        (ProxyReply(302, {"Location": "http://169.254.169.254/"}), "list", "status 302"),
    ],
)
def test_answer_of_azure_is_explained(
    azure: SampleDestination, front: Front, reply: ProxyReply, step: str, expected: str
) -> None:
    front.rule = lambda seen: ProxyReply(200) if seen.method == "HEAD" else reply
    failed, detail = azure.failure()
    assert (failed, expected in detail) == (step, True), detail
    assert "StringToSign" not in detail


@pytest.mark.parametrize(
    ("reply", "error"),
    [(azure_error(409, "BlobAlreadyExists"), DestinationUnavailableError),  # and is gone when it is looked for
     (azure_error(409, "BlobImmutableDueToPolicy"), DestinationError),
     (azure_error(412, "LeaseIdMissing"), DestinationError),
     (azure_error(403, "AuthorizationPermissionMismatch"), DestinationError),
     (azure_error(400, "InvalidBlobOrBlock"), DestinationError),  # of blocks that another program left there
     (azure_error(400, "Md5Mismatch"), DestinationUnavailableError)],
)  # fmt: skip
def test_delivery_to_azure_is_retried_only_where_that_may_help(
    azure: SampleDestination, front: Front, reply: ProxyReply, error: type[Exception]
) -> None:
    front.rule = lambda seen: azure_error(404, "BlobNotFound") if seen.method == "HEAD" else reply
    with pytest.raises(error):
        azure.write("a.csv", BytesFile(b"x"))


@pytest.mark.parametrize("size", [1, 9_000_000])
def test_write_to_azure_replaces_only_the_blob_that_was_found(
    azure: SampleDestination, front: Front, size: int
) -> None:
    found = ProxyReply(200, {"Content-Length": "3", "ETag": '"0x8D"'})
    changed = azure_error(412, "ConditionNotMet")

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if seen.method == "HEAD":
            return found
        return changed if "if-match" in seen.headers else ProxyReply(201)

    front.rule = rule
    with pytest.raises(DestinationUnavailableError, match="was written or removed meanwhile"):
        azure.write("a.csv", BytesFile(bytes(size)), overwrite=True)
    (write,) = (seen for seen in front.seen if seen.method == "PUT" and "blockid=" not in seen.target)
    assert write.headers["if-match"] == '"0x8D"'


def test_shared_access_signature_stands_in_the_query_alone(azure: SampleDestination, front: Front) -> None:
    made = azure.with_secret(sas_token=f"?{SAS}")
    front.rule = lambda seen: azure_error(404, "BlobNotFound") if seen.method == "HEAD" else ProxyReply(201)
    made.write("a b.csv", BytesFile(b"x"))
    assert front.seen[-1].target.startswith("/shop/exports/in/a%20b.csv?")
    assert "sig=of%2Fazure%3D" in front.seen[-1].target
    assert "authorization" not in front.seen[-1].headers
    front.rule = lambda _: azure_error(403, "AuthenticationFailed")
    with pytest.raises(DestinationError) as failed:
        made.write("a.csv", BytesFile(b"x"))
    assert "of%2F" not in str(failed.value) and "of/azure" not in str(failed.value)


@pytest.mark.parametrize("secret", [{}, {"account_key": KEY, "sas_token": SAS}, {"account_key": "notBase64!"},
                                    {"sas_token": "https://shop.blob.core.windows.net/?sig=a"}])  # fmt: skip
def test_secret_of_azure_that_is_none_is_a_violation(azure: SampleDestination, secret: dict[str, str]) -> None:
    settings, typed, allow = azure.with_secret(**secret).values
    (found,) = azure.kind.check(settings, typed, allow)
    assert (found.pointer or "").startswith("/secret")


@pytest.mark.parametrize("lies_there", [True, False])
@pytest.mark.parametrize("kind", ["google", "azure"])
def test_object_that_a_program_takes_away_is_written_once_and_counts_as_delivered(
    google: SampleDestination, azure: SampleDestination, front: Front, kind: str, *, lies_there: bool
) -> None:
    gone = google_error(404, "notFound") if kind == "google" else azure_error(404, "BlobNotFound")
    described = ProxyReply(200, {"Content-Length": "1"}, b'{"size": "1", "generation": "1"}')

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if seen.method in ("PUT", "POST"):
            return ProxyReply(200, {"Location": f"{front.address}/upload?upload_id=1"})
        return described if lies_there and len(front.seen) == 1 else gone

    front.rule = rule
    assert (google if kind == "google" else azure).write("a.csv", BytesFile(b"x")) == BytesFile(b"x").sha256
    sent = [seen.method for seen in front.seen if seen.method in ("PUT", "GET") and "fields=" not in seen.target]
    assert sent == ["GET", "PUT", "GET"][not lies_there :]


def test_nothing_of_the_environment_is_used(
    google: SampleDestination, azure: SampleDestination, front: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "operator.json").write_text(json.dumps({"type": "authorized_user", "refresh_token": "OPERATOR"}))
    poison: dict[str, Any] = {
        "GOOGLE_APPLICATION_CREDENTIALS": tmp_path / "operator.json",
        "GOOGLE_SERVICE_ACCOUNT": tmp_path / "operator.json",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "OPERATOR", "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
        "AZURE_STORAGE_ACCOUNT_NAME": "operator", "AZURE_STORAGE_ACCOUNT_KEY": "OPERATOR",
        "AZURE_STORAGE_TOKEN": "OPERATOR",
        "AZURE_STORAGE_SAS_TOKEN": "sig=OPERATOR", "AZURE_STORAGE_USE_EMULATOR": "true", "AZURE_CLIENT_ID": "OPERATOR",
        "HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1",
    }  # fmt: skip
    for name, value in poison.items():
        monkeypatch.setenv(name, str(value))

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if seen.method in ("HEAD", "GET"):
            return ProxyReply(404)
        return ProxyReply(200, {"Location": f"{front.address}/upload?upload_id=1"})

    front.rule = rule
    google.write("a.csv", BytesFile(b"x"))
    azure.write("a.csv", BytesFile(b"x"))
    assert "OPERATOR" not in str(front.seen)
    assert {seen.headers["authorization"].split(":")[0] for seen in front.seen} == {"Bearer a-token", "SharedKey shop"}


def test_addresses_are_those_of_google_and_azure_and_are_checked(
    google: SampleDestination, azure: SampleDestination
) -> None:
    for kind, made in ((gs_kind("http://127.0.0.1:1"), google), (az_kind("http://127.0.0.1:1/{account}"), azure)):
        step, detail = SampleDestination(kind, made.settings, made.secret).reaching().failure()
        assert (step, "not public" in detail) == ("resolve", True)
    assert gs(Settings()).takes == az(Settings()).takes == "files"


def test_answer_that_is_nested_too_deeply_has_no_reason() -> None:
    assert reason_of(StoreAnswer(403, {}, b'{"error":' + b"[" * 100_000)) == ""
