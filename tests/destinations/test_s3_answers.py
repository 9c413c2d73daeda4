"""Answers of S3 and of addresses in its place: each error names what to change, and nothing of the machine is sent."""

import random
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from longshore import outbound
from longshore.destinations.http_client import StoreAnswer, StoreRequest, encoded
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.s3_settings import S3Secret, S3Settings
from longshore.destinations.s3_signature import S3Signer
from longshore.destinations.servers import tls_error
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, s3_error
from tests.destinations.s3_servers import KEY, SECRET, s3_place
from tests.destinations.servers import BytesFile, SampleDestination, begin_old_tls

NOWHERE = ("127.0.0.1", 1)

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def front() -> Iterator[Front]:
    """A server that answers as a test says, and has nothing behind it."""
    found = Front(NOWHERE)
    yield found
    found.close()


@pytest.fixture
def place(front: Front) -> SampleDestination:
    return s3_place(front.address, KEY, SECRET)


@pytest.mark.parametrize(
    ("reply", "step", "expected"),
    [
        (s3_error(403, "InvalidAccessKeyId"), "authenticate", "access_key_id"),
        (s3_error(403, "SignatureDoesNotMatch"), "authenticate", "secret_access_key does not belong"),
        (s3_error(400, "ExpiredToken"), "authenticate", "session_token has expired"),
        (s3_error(400, "InvalidToken"), "authenticate", "session_token is not valid"),
        (s3_error(404, "NoSuchBucket"), "list", "bucket exports does not exist"),
        (s3_error(403, "AccessDenied"), "list", "s3:ListBucket"),
        (s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"), "list", 'set "region" to it'),
        (s3_error(307, "TemporaryRedirect", Location="http://127.0.0.1:1/"), "list", "another region"),
        (ProxyReply(302, {"Location": "http://169.254.169.254/latest"}), "list", "another region"),
        (ProxyReply(400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-2</Region></Error>"),
         "list", "region eu-west-2"),
        (s3_error(403, "RequestTimeTooSkewed"), "authenticate", "RequestTimeTooSkewed"),
        (s3_error(403, "KMS.DisabledException"), "list", "kms_key_id"),
        (s3_error(403, "InvalidObjectState"), "list", "archived"),
        (ProxyReply(507), "authenticate", "quota"),
        (s3_error(400, "XMinioStorageFull"), "authenticate", "full"),
        (ProxyReply(404, {}, b"<html>no S3 here</html>"), "list", "does not exist"),
        (ProxyReply(200, {}, bytes((1 << 20) + 1)), "authenticate", "more than"),
    ],
)  # fmt: skip
def test_answer_that_refuses_is_explained(
    place: SampleDestination, front: Front, reply: ProxyReply, step: str, expected: str
) -> None:
    front.rule = lambda seen: ProxyReply(200) if seen.method == "HEAD" else reply
    failed, detail = place.failure()
    assert (failed, expected in detail) == (step, True), detail
    assert "StringToSign" not in detail


@pytest.mark.parametrize(
    ("reply", "error"),
    [(s3_error(403, "AccessDenied"), DestinationError), (s3_error(400, "ExpiredToken"), DestinationError),
     (s3_error(404, "NoSuchBucket"), DestinationError), (s3_error(400, "EntityTooLarge"), DestinationError),
     (ProxyReply(404), DestinationError), (s3_error(501, "NotImplemented"), DestinationUnavailableError),
     (s3_error(400, "BadDigest"), DestinationUnavailableError),
     (s3_error(409, "OperationAborted"), DestinationUnavailableError),
     (s3_error(400, "RequestTimeout"), DestinationUnavailableError),
     (s3_error(507, "QuotaExceeded"), DestinationUnavailableError)],
)  # fmt: skip
def test_delivery_is_retried_only_where_that_may_help(
    place: SampleDestination, front: Front, reply: ProxyReply, error: type[Exception]
) -> None:
    front.rule = lambda seen: ProxyReply(404) if seen.method == "HEAD" else reply
    with pytest.raises(error):
        place.write("a.csv", BytesFile(b"x"))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (s3_error(400, "ExpiredToken"), "session_token has expired"),
        (s3_error(400, "InvalidToken"), "session_token is not valid"),
        (ProxyReply(400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-2</Region></Error>"),
         'is in the region eu-west-2; set "region" to it'),
    ],
)  # fmt: skip
def test_delivery_says_why_s3_refuses_credentials_though_its_answer_to_head_has_no_body(
    place: SampleDestination, front: Front, reply: ProxyReply, expected: str
) -> None:
    front.rule = lambda seen: ProxyReply(400) if seen.method == "HEAD" else reply
    with pytest.raises(DestinationError, match=expected):
        place.write("a.csv", BytesFile(b"x"))


def test_answer_400_to_head_that_passes_is_no_error(place: SampleDestination, front: Front) -> None:
    heads = iter([ProxyReply(400)])

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if seen.method == "HEAD":
            return next(heads, ProxyReply(404))
        return ProxyReply(404) if seen.method == "GET" and "?" not in seen.target else ProxyReply(200)

    front.rule = rule
    assert place.write("a.csv", BytesFile(b"x")) == BytesFile(b"x").sha256


def test_redirect_is_not_followed_even_to_the_same_host(place: SampleDestination, front: Front) -> None:
    front.rule = lambda seen: ProxyReply(307, {"Location": f"{front.address}/elsewhere{seen.target}"})
    with pytest.raises(DestinationError, match="another region"):
        place.write("a.csv", BytesFile(b"x"))
    assert all(not seen.target.startswith("/elsewhere") for seen in front.seen)


def test_address_that_is_not_public_is_refused_before_a_connection(place: SampleDestination, front: Front) -> None:
    for endpoint in (front.address, front.address.replace("127.0.0.1", "localhost"), "http://169.254.169.254"):
        step, detail = place.reaching().change(endpoint=endpoint).failure()
        assert (step, "not public" in detail) == ("resolve", True)
        with pytest.raises(DestinationError, match="not public"):
            place.reaching().change(endpoint=endpoint).write("a.csv", BytesFile(b"x"))
    assert front.seen == []


def test_plain_http_is_for_allowed_networks_alone(place: SampleDestination) -> None:
    step, detail = place.reaching().change(endpoint="http://1.1.1.1").failure()
    assert (step, "use https://" in detail) == ("resolve", True)


class OldTls(socketserver.BaseRequestHandler):
    """A server with old TLS alone."""

    def handle(self) -> None:
        begin_old_tls(self.request)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_service_that_has_old_tls_alone_is_refused_at_once() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldTls) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(DestinationError, match=r"needs TLS 1\.2 or later"):
                s3_place(f"https://localhost:{server.server_address[1]}", KEY, SECRET).write("a.csv", BytesFile(b"x"))
        finally:
            server.shutdown()


def test_tls_connection_that_the_server_has_shut_down_is_a_transient_error() -> None:
    for reason, expected in (
        ("PROTOCOL_IS_SHUTDOWN", DestinationUnavailableError),
        ("UNSUPPORTED_PROTOCOL", DestinationError),
    ):
        error = ssl.SSLError(1, reason)
        error.reason = reason
        assert isinstance(tls_error(error, "s3.example.com"), expected)


def test_certificate_is_for_the_name_though_the_connection_is_to_an_address(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    front.use_tls(certificate, key)
    front.rule = lambda seen: ProxyReply(404) if seen.method == "HEAD" else ProxyReply(200, body=b"x")
    place = s3_place(front.address, KEY, SECRET)
    step, detail = place.failure()
    assert (step, "certificate" in detail) == ("connect", True), detail
    with pytest.raises(DestinationError, match="certificate of localhost:"):
        place.write("a.csv", BytesFile(b"x"))
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(outbound, "tls_context", lambda: trusting)
    place.write("a.csv", BytesFile(b"x"))
    assert front.seen[-1].headers["host"] == front.address.removeprefix("https://")
    with pytest.raises(DestinationError, match=r"certificate of 127\.0\.0\.1"):
        place.change(endpoint=front.address.replace("localhost", "127.0.0.1")).write("a.csv", BytesFile(b"x"))


@pytest.mark.parametrize("folder", ["a folder/ü", "a%20folder/%C3%BC/"])
def test_folder_of_an_endpoint_has_any_letters(place: SampleDestination, front: Front, folder: str) -> None:
    front.rule = lambda seen: ProxyReply(404) if seen.method == "HEAD" else ProxyReply(200, body=b"x")
    place.change(endpoint=f"{front.address}/{folder}").write("a.csv", BytesFile(b"x"))
    assert front.seen[-1].target == "/a%20folder/%C3%BC/exports/in/a.csv"


def test_server_that_does_not_speak_tls_is_named(place: SampleDestination, front: Front) -> None:
    step, detail = place.change(endpoint=front.address.replace("http://", "https://")).failure()
    assert (step, "TLS" in detail) == ("connect", True), detail


@pytest.mark.parametrize(
    "endpoint", ["ftp://a.example.com", "https://u:p@a.example.com", "https://a.example.com/?x", "x"]
)
def test_endpoint_that_is_none_is_a_violation(place: SampleDestination, endpoint: str) -> None:
    settings, secret, allow = place.change(endpoint=endpoint).values
    assert [violation.pointer for violation in place.kind.check(settings, secret, allow)] == ["/settings/endpoint"]


@pytest.mark.parametrize(
    "settings",
    [{"bucket": "MyBucket"}, {"bucket": "MyBucket", "endpoint": ""}, {"endpoint": "https://[2606:4700::1111]:9000"},
     {"endpoint": "https://1.1.1.1"}, {"bucket": "my_bucket", "endpoint": "https://bücher.example"}],
)  # fmt: skip
def test_bucket_whose_name_cannot_stand_in_the_host_is_a_violation(
    place: SampleDestination, settings: dict[str, str]
) -> None:
    typed, secret, allow = place.change(path_style=False, **{"endpoint": "https://s3.example.com", **settings}).values
    assert [violation.pointer for violation in place.kind.check(typed, secret, allow)] == ["/settings/path_style"]
    for path_style in (True, None):
        typed, secret, allow = place.change(path_style=path_style, **settings).values
        assert place.kind.check(typed, secret, allow) == []


def test_settings_that_do_not_fit_each_other_are_violations(place: SampleDestination) -> None:
    settings, secret, allow = place.change(kms_key_id="k", prefix="a//b").values
    pointers = [violation.pointer for violation in place.kind.check(settings, secret, allow)]
    assert pointers == ["/settings/prefix", "/settings/kms_key_id"]


POISON = {
    "AWS_ACCESS_KEY_ID": "OPERATOR", "AWS_SECRET_ACCESS_KEY": "OPERATOR", "AWS_SESSION_TOKEN": "OPERATOR",
    "AWS_PROFILE": "OPERATOR", "AWS_REGION": "operator-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
    "AWS_SSE_KMS_KEY_ID": "OPERATOR", "AWS_SKIP_SIGNATURE": "true", "AWS_REQUEST_PAYER": "OPERATOR", "HTTP_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "SSL_CERT_FILE": "/nonexistent",
    "NETRC": "/nonexistent",
}  # fmt: skip


def test_nothing_of_the_environment_is_used(
    place: SampleDestination, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)

    def rule(seen: ProxiedRequest) -> ProxyReply:
        if seen.method == "HEAD" or (seen.method == "GET" and seen.target.endswith(".csv")):
            return ProxyReply(404)
        return ProxyReply(200, {"ETag": '"x"'}, b"<UploadId>1</UploadId>")

    front.rule = rule
    for size in (1, 9_000_000):
        place.write(f"{size}.csv", BytesFile(bytes(size)))
    assert len(front.seen) > 5
    for seen in front.seen:
        assert seen.headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/")
        assert "/us-east-1/s3/" in seen.headers["authorization"]
        assert "OPERATOR" not in str(seen)
        assert not {"x-amz-security-token", "x-amz-server-side-encryption", "x-amz-request-payer"} & set(seen.headers)


def test_session_token_is_sent_and_signed(place: SampleDestination, front: Front) -> None:
    made = place.with_secret(access_key_id=KEY, secret_access_key=SECRET, session_token="of/a+role==")
    front.rule = lambda seen: ProxyReply(404) if seen.method == "HEAD" else ProxyReply(200, body=b"x")
    made.write("a.csv", BytesFile(b"x"))
    assert all(seen.headers["x-amz-security-token"] == "of/a+role==" for seen in front.seen)
    assert all(";x-amz-security-token," in seen.headers["authorization"] for seen in front.seen)


@pytest.mark.parametrize(
    ("settings", "host", "target"),
    [({"region": ""}, "exports.s3.us-east-1.amazonaws.com", "/in/a"),
     ({"region": "eu-west-1"}, "exports.s3.eu-west-1.amazonaws.com", "/in/a"),
     ({"region": "cn-north-1"}, "exports.s3.cn-north-1.amazonaws.com.cn", "/in/a"),
     ({"region": "eusc-de-east-1"}, "exports.s3.eusc-de-east-1.amazonaws.eu", "/in/a"),
     ({"bucket": "a.b"}, "s3.us-east-1.amazonaws.com", "/a.b/in/a"),
     ({"bucket": "MyBucket"}, "s3.us-east-1.amazonaws.com", "/MyBucket/in/a"),
     ({"bucket": "my_bucket"}, "s3.us-east-1.amazonaws.com", "/my_bucket/in/a"),
     ({"path_style": True}, "s3.us-east-1.amazonaws.com", "/exports/in/a"),
     ({"endpoint": "https://s3.example.com"}, "s3.example.com", "/exports/in/a"),
     ({"endpoint": "https://example.com/storage/s3/"}, "example.com", "/storage/s3/exports/in/a"),
     ({"endpoint": "https://s3.example.com:8443", "path_style": False}, "exports.s3.example.com:8443", "/in/a")],
)  # fmt: skip
def test_bucket_stands_in_the_host_or_in_the_path(settings: dict[str, str], host: str, target: str) -> None:
    found = httpx2.URL(msgspec.convert({"bucket": "exports", "prefix": "in", **settings}, S3Settings).address)
    assert (found.netloc.decode(), f"{found.path.rstrip('/')}/in/a") == (host, target)


@pytest.mark.parametrize(
    "date", ["", "soon", "Fri, 01 Jan 99999999999999999999 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 -0000"]
)
def test_clock_of_an_answer_whose_date_cannot_be_read_is_not_followed(date: str) -> None:
    signer = S3Signer(S3Secret("id", "secret"), "eu-west-1")
    assert not signer.follow_clock(StoreAnswer(403, {"date": date}, b""))


def test_signature_is_that_of_amazons_own_library() -> None:
    seeded = random.Random(7)
    alphabet = "aZ0 -_.~/+%&=?#:@!$'()*,;[]é日"
    now = datetime(2026, 5, 26, 12, 0, 5, tzinfo=UTC)
    for _ in range(300):
        key = "".join(seeded.choice(alphabet) for _ in range(seeded.randrange(1, 30))).strip("/")
        query = {
            "".join(seeded.choice("abzAZ-") for _ in range(3)): "".join(seeded.choice(alphabet) for _ in range(5))
            for _ in range(seeded.randrange(4))
        }
        content = seeded.randbytes(seeded.randrange(20))
        token = seeded.choice(["", "of/a+role=="])
        more = {"Content-Type": "text/csv; charset=utf-8", "If-None-Match": "*"} if seeded.random() < 0.5 else {}
        headers = {"Host": "s3.example.com:8443", **more}
        request = StoreRequest("PUT", f"/exports/{encoded(key, safe='/')}", query, headers, content)
        secret = S3Secret("AKID", "secret/of+tests==", token)
        ours = S3Signer(secret, "eu-west-1").signed_at(now, request).headers["Authorization"]
        theirs = AWSRequest("PUT", f"https://s3.example.com:8443{request.target}", data=content, headers=dict(headers))
        signer = S3SigV4Auth(Credentials("AKID", "secret/of+tests==", token or None), "s3", "eu-west-1")
        theirs.headers["X-Amz-Content-SHA256"] = signer.payload(theirs)
        theirs.headers["X-Amz-Date"] = theirs.context["timestamp"] = "20260526T120005Z"
        if token:
            theirs.headers["X-Amz-Security-Token"] = token
        text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
        assert ours.rpartition("=")[2] == signer.signature(text, theirs), request
