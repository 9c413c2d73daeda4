"""The test of an S3 destination names the right or setting that is missing."""

import json
import re
from pathlib import Path

import pytest

from longshore.destinations.kind import DestinationError
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, s3_error
from tests.destinations.s3_servers import KEY, SECRET, MotoServer, RcloneServer
from tests.destinations.servers import BytesFile

PAGE = (Path(__file__).parents[2] / "docs/destinations-s3.md").read_text(encoding="utf-8")
POLICY = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
ALL = [action for statement in POLICY["Statement"] for action in statement["Action"]]


@pytest.mark.parametrize(
    ("secret", "expected"),
    [({"access_key_id": "AKIDOTHER"}, "access_key_id"), ({"secret_access_key": "anotherOne"}, "secret_access_key")],
)
def test_wrong_key_is_named(rclone_server: RcloneServer, secret: dict[str, str], expected: str) -> None:
    step, detail = (
        rclone_server.place().with_secret(**{"access_key_id": KEY, "secret_access_key": SECRET, **secret}).failure()
    )
    assert step == "authenticate"
    assert expected in detail


def test_missing_bucket_is_named(rclone_server: RcloneServer) -> None:
    assert rclone_server.place().change(bucket="nosuch").failure() == (
        "list", "the bucket nosuch does not exist (NoSuchBucket)"
    )  # fmt: skip
    with pytest.raises(DestinationError, match="bucket nosuch does not exist"):
        rclone_server.place().change(bucket="nosuch").write("a.csv", BytesFile(b"x"))


@pytest.mark.parametrize(
    ("missing", "step"),
    [("s3:ListBucket", "list"), ("s3:PutObject", "write"), ("s3:GetObject", "read"), ("s3:DeleteObject", "delete"),
     ("s3:AbortMultipartUpload", "upload")],
)  # fmt: skip
def test_missing_right_is_named(moto_server: MotoServer, missing: str, step: str) -> None:
    with moto_server.user(f"without-{step}", *(action for action in ALL if action != missing)) as place:
        failed, detail = place.failure()
    assert (failed, missing in detail) == (step, True), detail
    assert "AccessDenied" in detail or "status 403" in detail  # an answer to HEAD has no code


@pytest.mark.parametrize("reply", [s3_error(403, "AccessDenied"), s3_error(501, "NotImplemented")])
def test_server_that_does_not_list_uploads_takes_files_and_the_test_says_so(
    moto_server: MotoServer, reply: ProxyReply
) -> None:
    def lists_uploads(seen: ProxiedRequest) -> ProxyReply | None:
        return reply if seen.method == "GET" and "uploads=" in seen.target else None

    front = Front(moto_server.netloc, lists_uploads)
    place, before = moto_server.place(address=front.address), moto_server.uploads()
    try:
        *_, upload, deleted = place.test()
        place.write("large.csv", BytesFile(bytes(9_000_000)))
    finally:
        front.close()
    assert (upload.step, upload.ok, "s3:ListBucketMultipartUploads" in upload.detail, deleted.ok) == (
        "upload", True, True, True
    ), upload  # fmt: skip
    assert moto_server.uploads() == before


def test_policy_of_the_documentation_is_enough(moto_server: MotoServer) -> None:
    with moto_server.user("with-all", *ALL) as place:
        assert place.test()[-1].ok
