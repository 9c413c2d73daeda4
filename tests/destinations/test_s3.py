"""Files in S3: against rclone's server, which checks signatures, and moto's, which knows conditions."""

import asyncio
import io
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec
import pytest

from longshore.destinations import object_kind
from longshore.destinations.deliver import discard
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, once, s3_error
from tests.destinations.many_files import NO_STORE, delivery_of_files
from tests.destinations.s3_servers import BUCKET, MotoServer, RcloneServer
from tests.destinations.servers import RCLONE, BytesFile, SampleDestination, random_file

LARGE = (8 << 20) + 1  # more than one part

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def place(rclone_server: RcloneServer) -> SampleDestination:
    return rclone_server.place()


@pytest.fixture
def front(moto_server: MotoServer) -> Iterator[Front]:
    found = Front(moto_server.netloc)
    yield found
    found.close()


@pytest.mark.parametrize("size", [0, 1, 8 << 20, LARGE, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(
    place: SampleDestination, rclone_server: RcloneServer, size: int
) -> None:
    file = random_file(size)
    place.write(f"sizes/{size}.csv", file)
    command = [str(RCLONE), "cat", f"t:{BUCKET}/in/sizes/{size}.csv"]
    found = subprocess.run(command, env=rclone_server.environment, capture_output=True, check=True)
    assert found.stdout == file.content
    assert place.read(f"sizes/{size}.csv") == file.content


def test_the_test_of_a_good_destination_leaves_nothing(place: SampleDestination, rclone_server: RcloneServer) -> None:
    steps = place.change(prefix="tested").test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "authenticate", "list", "write", "read", "upload", "delete"
    ], steps  # fmt: skip
    assert list((rclone_server.folder / BUCKET).glob("tested/**/*")) == []


@pytest.mark.parametrize(
    "name",
    ["a b.csv", "a+b.csv", "a%20b.csv", "a%.csv", "ü/é/日本.csv", "e\u0301.csv", "a&b=c;d.csv", "a?b#c.csv",
     "'\"<>.csv", "~a!*().csv", "field=2026-05-26/part-00001.csv", "a:b@c,d$.csv", "\U0001f6d2.csv", "-", "x" * 200],
)  # fmt: skip
def test_key_of_any_characters_is_signed_and_found(
    place: SampleDestination, moto_server: MotoServer, name: str
) -> None:
    place.write(name, BytesFile(name.encode()))
    assert place.read(name) == name.encode()
    moto_server.place().write(f"odd/{name}", BytesFile(name.encode()))
    assert moto_server.content(f"in/odd/{name}") == name.encode()


@pytest.mark.parametrize("prefix", ["", "p", "p/", "/p", "/p/", "p q/+"])
def test_slashes_around_a_prefix_make_no_difference(moto_server: MotoServer, prefix: str) -> None:
    name = f"prefixes/{prefix.strip('/') or 'none'}.csv"
    moto_server.place().change(prefix=prefix).write(name, BytesFile(b"x"))
    assert moto_server.content(f"{prefix.strip('/')}/{name}".lstrip("/")) == b"x"


@pytest.mark.parametrize("path", ["../a", "a/../b", "./a", "a//b", "/a", "a/", "", "a\nb", "x" * 1100])
def test_path_that_could_lead_elsewhere_is_refused(place: SampleDestination, path: str) -> None:
    with pytest.raises(DestinationError):
        place.write(path, BytesFile(b"x"))


def test_file_that_lies_there_with_the_same_bytes_is_left(moto_server: MotoServer) -> None:
    place, key = moto_server.place(), "in/same.csv"
    for overwrite in (False, False, True):
        place.write("same.csv", BytesFile(b"same"), overwrite=overwrite)
    versions = moto_server.bucket.head_object(Bucket=BUCKET, Key=key)["LastModified"]
    place.write("same.csv", BytesFile(b"same"))
    assert moto_server.bucket.head_object(Bucket=BUCKET, Key=key)["LastModified"] == versions


def test_another_file_is_replaced_only_where_the_task_says_so(moto_server: MotoServer) -> None:
    place = moto_server.place()
    place.write("other.csv", BytesFile(b"first"))
    for content in (b"other", b"longer than the first"):
        with pytest.raises(
            DestinationError, match=r"another file lies at s3://exports/in/other\.csv; add to .path. whatever"
        ):
            place.write("other.csv", BytesFile(content))
    assert moto_server.content("in/other.csv") == b"first"
    place.write("other.csv", BytesFile(b"other"), overwrite=True)
    assert moto_server.content("in/other.csv") == b"other"


def test_object_that_a_program_takes_away_while_it_is_compared_is_written_again(
    moto_server: MotoServer, front: Front
) -> None:
    place, file = moto_server.place(address=front.address), BytesFile(b"taken")
    place.write("taken.csv", file)

    def take(seen: ProxiedRequest) -> None:
        if seen.method == "GET" and not any(earlier.method == "PUT" for earlier in front.seen):
            moto_server.bucket.delete_object(Bucket=BUCKET, Key="in/taken.csv")

    front.seen.clear()
    front.rule = take
    place.write("taken.csv", file)
    assert moto_server.content("in/taken.csv") == file.content


class InterferingFile(BytesFile, frozen=True):
    """A File during whose reading something happens."""

    happens: Callable[[], Any] = lambda: None

    def open(self) -> IO[bytes]:
        self.happens()
        return io.BytesIO(self.content)


@pytest.mark.parametrize("size", [10, LARGE])
def test_file_that_appears_while_another_is_sent_is_not_replaced(moto_server: MotoServer, size: int) -> None:
    name = f"race-{size}.csv"

    def write_other() -> None:
        moto_server.bucket.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=b"of another program")

    with pytest.raises(DestinationError, match="another file lies at"):
        moto_server.place().write(name, InterferingFile(bytes(size), [], write_other))
    assert moto_server.content(f"in/{name}") == b"of another program"
    assert moto_server.uploads() == []


@pytest.mark.parametrize("is_removed", [False, True])
@pytest.mark.parametrize("size", [10, LARGE])
def test_late_write_replaces_no_newer_file_even_where_it_may_overwrite(
    moto_server: MotoServer, front: Front, size: int, is_removed: bool
) -> None:
    """As that of a worker which was paused, and whose task has delivered a later run meanwhile."""
    place, name = moto_server.place(address=front.address), f"late-{size}-{is_removed}.csv"
    place.write(name, BytesFile(b"earlier"))

    def compare(seen: ProxiedRequest) -> ProxyReply | None:
        """At the end of an upload, where moto does not evaluate the condition."""
        if not is_end(seen) or "if-match" not in seen.headers:
            return None
        return s3_error(404, "NoSuchKey") if is_removed else s3_error(412, "PreconditionFailed")

    front.rule = compare

    def change() -> None:
        moto_server.bucket.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=b"newer")
        if is_removed:
            moto_server.bucket.delete_object(Bucket=BUCKET, Key=f"in/{name}")

    with pytest.raises(DestinationUnavailableError, match="was written or removed meanwhile"):
        place.write(name, InterferingFile(bytes(size), [], change), overwrite=True)
    assert f"in/{name}" not in moto_server.found_keys() if is_removed else moto_server.content(f"in/{name}") == b"newer"
    front.rule = lambda _: None
    place.write(name, BytesFile(bytes(size)), overwrite=True)
    assert moto_server.content(f"in/{name}") == bytes(size)
    assert moto_server.uploads() == []


def test_interrupted_upload_is_invisible_and_aborted(moto_server: MotoServer) -> None:
    class CutFile(BytesFile, frozen=True):
        def open(self) -> IO[bytes]:
            return io.BytesIO(self.content[: LARGE - 10])

    with pytest.raises(DestinationUnavailableError, match="cut short"):
        moto_server.place().write("cut.csv", CutFile(bytes(LARGE)))
    assert "in/cut.csv" not in moto_server.found_keys()
    assert moto_server.uploads() == []


def test_upload_of_a_killed_process_is_aborted_by_discard_and_by_the_next_write(moto_server: MotoServer) -> None:
    place = moto_server.place()

    def left(key: str) -> None:
        moto_server.bucket.create_multipart_upload(Bucket=BUCKET, Key=key)

    left("in/killed.csv")
    left("in/killed.csv.other")
    place.discard("killed.csv")
    assert moto_server.uploads() == ["in/killed.csv.other"]
    left("in/killed.csv")
    place.write("killed.csv", random_file(LARGE))
    assert moto_server.uploads() == ["in/killed.csv.other"]
    place.discard("killed.csv.other")
    place.discard("never-begun.csv")
    assert moto_server.uploads() == []


def test_uploads_that_many_files_have_left_are_found_by_one_list(moto_server: MotoServer, front: Front) -> None:
    left = ["in/7.csv", "in/300.csv", "in/300.csv", "in/7.csv.other", "in/folder/7.csv"]
    for key in left:
        moto_server.bucket.create_multipart_upload(Bucket=BUCKET, Key=key)
    made = moto_server.place(address=front.address)

    async def run() -> None:
        async with made.kind.open(*made.values) as place:
            await discard(delivery_of_files(400), place, NO_STORE, range(2))

    asyncio.run(run())
    assert moto_server.uploads() == left[3:]
    assert [seen.method for seen in front.seen] == ["GET", "DELETE", "DELETE", "DELETE"]
    for name in ("7.csv.other", "folder/7.csv"):
        made.discard(name)
    assert moto_server.uploads() == []


def test_list_of_uploads_is_read_to_its_end(moto_server: MotoServer, front: Front) -> None:
    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        if seen.method != "GET":
            return None
        one, more = ("part.csv", "false") if "upload-id-marker=first" in seen.target else ("another.csv", "true")
        text = f"<Upload><Key>in/{one}</Key><UploadId>{one}</UploadId></Upload><IsTruncated>{more}</IsTruncated>"
        return ProxyReply(
            200,
            {},
            f"<L>{text}<NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>first</NextUploadIdMarker></L>".encode(),
        )

    front.rule = rule
    moto_server.place(address=front.address).discard("part.csv")
    assert [seen.target.partition("?")[2] for seen in front.seen if seen.method == "DELETE"] == ["uploadId=part.csv"]


def test_list_of_uploads_that_never_ends_is_given_up(moto_server: MotoServer, front: Front) -> None:
    page = ProxyReply(200, {}, b"<L><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker></L>")
    front.rule = lambda _: page if len(front.seen) <= 1000 else ProxyReply(403)
    moto_server.place(address=front.address).discard("part.csv")
    assert len(front.seen) == 100


@pytest.mark.parametrize("tag", ["<Error>", "<Upload>", "<Key>"])
@pytest.mark.parametrize("status", [200, 403])
def test_answer_of_many_open_tags_takes_no_time(moto_server: MotoServer, front: Front, tag: str, status: int) -> None:
    front.rule = lambda _: ProxyReply(status, {}, tag.encode() * ((1 << 17) // len(tag)))
    began = time.monotonic()
    moto_server.place(address=front.address).discard("part.csv")
    assert time.monotonic() - began < 3


def test_cancelled_upload_is_aborted(moto_server: MotoServer, front: Front) -> None:
    begun = threading.Event()

    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        if "partNumber=2" not in seen.target:
            return None
        begun.set()
        return ProxyReply(hangs=True)

    front.rule = rule
    made = moto_server.place(address=front.address)

    async def cancel() -> None:
        async with made.kind.open(*made.values) as place:
            file = random_file(LARGE)
            writing = asyncio.create_task(place.write("cancelled.csv", file, "d", overwrite=False))  # type: ignore[union-attr]
            await asyncio.to_thread(begun.wait, 30)
            assert moto_server.uploads() == ["in/cancelled.csv"]
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing

    asyncio.run(cancel())
    assert moto_server.uploads() == []
    assert "in/cancelled.csv" not in moto_server.found_keys()


@pytest.mark.parametrize("prefix", ["loyalty", "/loyalty/", ""])
def test_list_stays_within_the_prefix(moto_server: MotoServer, front: Front, prefix: str) -> None:
    assert moto_server.place(address=front.address).change(prefix=prefix).test()[-1].ok
    listed = [seen.target for seen in front.seen if "list-type=2" in seen.target]
    assert [target.rpartition("&prefix=")[2] for target in listed] == ["loyalty%2F" if prefix else ""]


@pytest.mark.parametrize("size", [10, LARGE])
def test_content_that_is_damaged_on_the_way_is_refused_by_the_server(rclone_server: RcloneServer, size: int) -> None:
    address = urlsplit(rclone_server.address)
    damaging = Front((str(address.hostname), int(address.port or 0)))
    damaging.damage = lambda seen, body: b"X" + body[1:] if seen.method == "PUT" else body
    settings = rclone_server.place().change(endpoint=damaging.address)
    with pytest.raises(DestinationUnavailableError, match=r"BadDigest|XAmzContentSHA256Mismatch"):
        settings.write(f"damaged-{size}.csv", BytesFile(bytes(size)))
    damaging.close()
    assert not (rclone_server.folder / BUCKET / f"in/damaged-{size}.csv").exists()


def test_encryption_is_that_of_the_settings(moto_server: MotoServer) -> None:
    settings: dict[str, Any] = {"encryption": "aws:kms", "kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/abc-1"}
    for size in (10, LARGE):
        moto_server.place().change(**settings).write(f"kms-{size}.csv", random_file(size))
        found = moto_server.bucket.head_object(Bucket=BUCKET, Key=f"in/kms-{size}.csv")
        assert found["ServerSideEncryption"] == "aws:kms"
        assert found["SSEKMSKeyId"] == settings["kms_key_id"]
        assert found["ContentType"] == "text/csv; charset=utf-8"


def is_put(seen: ProxiedRequest) -> bool:
    return seen.method == "PUT"


@pytest.mark.parametrize(
    "reply",
    [ProxyReply(500), ProxyReply(503, body=b"<Error><Code>SlowDown</Code></Error>"), ProxyReply(drops=True),
     ProxyReply(429), ProxyReply(passes_on=True, drops=True)],
)  # fmt: skip
@pytest.mark.parametrize("size", [10, LARGE])
def test_request_that_fails_once_is_sent_again(
    moto_server: MotoServer, front: Front, reply: ProxyReply, size: int
) -> None:
    front.rule = once(is_put, reply)
    file, name = random_file(size), f"again-{size}-{reply.status}-{reply.passes_on}.csv"
    moto_server.place(address=front.address).write(name, file)
    assert moto_server.content(f"in/{name}") == file.content


def is_end(seen: ProxiedRequest) -> bool:
    """Whether a request ends an upload."""
    return seen.method == "POST" and "uploadId=" in seen.target


@pytest.mark.parametrize("overwrite", [False, True])
def test_lost_answer_to_the_end_of_an_upload_counts_as_written(
    moto_server: MotoServer, front: Front, overwrite: bool
) -> None:
    front.rule = once(is_end, ProxyReply(passes_on=True, drops=True))
    file = random_file(LARGE)
    moto_server.place(address=front.address).write(f"lost-answer-{overwrite}.csv", file, overwrite=overwrite)
    assert moto_server.content(f"in/lost-answer-{overwrite}.csv") == file.content


def test_upload_that_another_program_aborted_may_be_written_again(moto_server: MotoServer, front: Front) -> None:
    front.rule = lambda seen: s3_error(404, "NoSuchUpload") if is_end(seen) else None
    with pytest.raises(DestinationUnavailableError):
        moto_server.place(address=front.address).write("aborted.csv", random_file(LARGE))
    assert "in/aborted.csv" not in moto_server.found_keys()


def test_error_after_the_status_of_the_end_of_an_upload_counts(moto_server: MotoServer, front: Front) -> None:
    front.rule = once(is_end, s3_error(200, "InternalError"))
    file = random_file(LARGE)
    moto_server.place(address=front.address).write("late-error-once.csv", file)
    assert moto_server.content("in/late-error-once.csv") == file.content
    front.rule = lambda seen: s3_error(200, "InternalError") if is_end(seen) else None
    with pytest.raises(DestinationUnavailableError, match="InternalError"):
        moto_server.place(address=front.address).write("late-error.csv", random_file(LARGE))
    assert "in/late-error.csv" not in moto_server.found_keys()
    assert moto_server.uploads() == []


def test_server_without_conditions_is_written_to_all_the_same(moto_server: MotoServer, front: Front) -> None:
    conditions = {"if-match", "if-none-match"}
    front.rule = lambda seen: s3_error(501, "NotImplemented") if conditions & set(seen.headers) else None
    place = moto_server.place(address=front.address)
    place.write("plain.csv", BytesFile(b"a"))
    with pytest.raises(DestinationError, match="another file"):
        place.write("plain.csv", BytesFile(b"b"))
    assert moto_server.content("in/plain.csv") == b"a"
    place.write("plain.csv", BytesFile(b"b"), overwrite=True)
    assert moto_server.content("in/plain.csv") == b"b"


@pytest.mark.parametrize(
    "answers",
    [[s3_error(200, "InternalError")], [ProxyReply(passes_on=True, drops=True), s3_error(404, "NoSuchUpload")]],
    ids=["error after the status", "lost answer"],
)
def test_end_of_an_upload_to_a_server_without_conditions_is_repeated_without_one(
    moto_server: MotoServer, front: Front, answers: list[ProxyReply]
) -> None:
    ends = iter(answers)

    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        if not is_end(seen):
            return None
        return s3_error(501, "NotImplemented") if "if-none-match" in seen.headers else next(ends, None)

    front.rule = rule
    file, name = random_file(LARGE), f"plain-{len(answers)}.csv"
    moto_server.place(address=front.address).write(name, file)
    assert moto_server.content(f"in/{name}") == file.content
    assert moto_server.uploads() == []


@pytest.mark.parametrize("tag", ["", 'W/"1"'])
def test_object_without_a_strong_tag_is_replaced_without_a_condition(
    moto_server: MotoServer, front: Front, tag: str
) -> None:
    place, name = moto_server.place(address=front.address), f"tag-{len(tag)}.csv"
    place.write(name, BytesFile(b"a"))
    found = ProxyReply(200, {"Content-Length": "1", **({"ETag": tag} if tag else {})})
    front.rule = lambda seen: found if seen.method == "HEAD" else None
    place.write(name, BytesFile(b"b"), overwrite=True)
    assert moto_server.content(f"in/{name}") == b"b"


def test_reading_by_a_weak_tag_does_not_go_on_and_says_that_the_connection_broke(
    moto_server: MotoServer, front: Front
) -> None:
    """A proxy may make tags weak, and If-Match holds for no weak tag."""
    moto_server.place().write("weak-tag.csv", BytesFile(b"weak"))
    cut = ProxyReply(200, {"ETag": 'W/"1"'}, bytes(1000), cuts_after=500)
    front.rule = lambda seen: ProxyReply(412) if "if-match" in seen.headers else cut
    with pytest.raises(DestinationUnavailableError, match=r"the connection to .* broke"):
        moto_server.place(address=front.address).read("weak-tag.csv")


def test_reading_goes_on_where_the_connection_broke(moto_server: MotoServer, front: Front) -> None:
    file = random_file(3_000_000)
    moto_server.place().write("broken.csv", file)
    cuts = iter([1_000_000, 0, 500_000])

    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        cut = next(cuts, None) if seen.method == "GET" else None
        return None if cut is None else ProxyReply(cuts_after=cut)

    front.rule = rule
    assert moto_server.place(address=front.address).read("broken.csv") == file.content
    assert [seen.headers.get("range") for seen in front.seen] == [
        None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"
    ]  # fmt: skip


def test_file_of_a_server_without_ranges_is_read_on_after_a_break(moto_server: MotoServer, front: Front) -> None:
    file = random_file(2_000_000)
    moto_server.place().write("whole.csv", file)
    tag = moto_server.bucket.head_object(Bucket=BUCKET, Key="in/whole.csv")["ETag"]
    whole = ProxyReply(200, {"ETag": tag}, file.content)
    replies = iter([ProxyReply(cuts_after=1_000_000), msgspec.structs.replace(whole, cuts_after=1_500_000), whole])
    front.rule = lambda seen: next(replies, None) if seen.method == "GET" else None
    assert moto_server.place(address=front.address).read("whole.csv") == file.content
    assert [seen.headers.get("range") for seen in front.seen] == [None, "bytes=1000000-", "bytes=1500000-"]
    replies = itertools.chain(
        [ProxyReply(cuts_after=10)], itertools.repeat(ProxyReply(200, {"ETag": '"other"'}, file.content))
    )
    with pytest.raises(DestinationUnavailableError, match="replaced while it was read"):
        moto_server.place(address=front.address).read("whole.csv")


def test_file_that_changes_while_it_is_read_is_an_error(moto_server: MotoServer, front: Front) -> None:
    moto_server.place().write("changing.csv", random_file(100_000))

    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        if "range" not in seen.headers:
            return ProxyReply(cuts_after=10)
        moto_server.bucket.put_object(Bucket=BUCKET, Key="in/changing.csv", Body=bytes(100_000))
        return None

    front.rule = rule
    with pytest.raises(DestinationUnavailableError, match="replaced while it was read"):
        moto_server.place(address=front.address).read("changing.csv")


def test_clock_of_the_server_is_followed(moto_server: MotoServer, front: Front) -> None:
    skewed = s3_error(403, "RequestTimeTooSkewed", Date="Thu, 01 Jan 2026 00:00:00 GMT")
    front.rule = lambda seen: None if seen.headers["x-amz-date"].startswith("20260101") else skewed
    moto_server.place(address=front.address).write("skewed.csv", BytesFile(b"x"))
    assert moto_server.content("in/skewed.csv") == b"x"
    assert [seen.headers["x-amz-date"][:8] for seen in front.seen][-1] == "20260101"


def test_test_removes_what_it_wrote_for_a_few_seconds_at_most(
    moto_server: MotoServer, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_kind, "CLEANUP_SECONDS", 0.2)
    front.rule = lambda seen: (
        ProxyReply(hangs=True) if seen.method in ("GET", "DELETE") and "/in/" in seen.target else None
    )
    made = moto_server.place(address=front.address)

    async def test() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                async for step in made.kind.test(*made.values):
                    assert step.ok

    began = time.monotonic()
    asyncio.run(test())
    front.release.set()
    assert any(seen.method == "DELETE" for seen in front.seen)
    assert time.monotonic() - began < 10
