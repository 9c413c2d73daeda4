"""Arguments and paths that the client refuses with an error of its own, before it sends or fetches anything."""

import asyncio
import os
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from longshore import AsyncLongshore, F, Longshore
from longshore.client import ArgumentError, DownloadError
from tests.client.conftest import Cli
from tests.client.gateway import Gateway
from tests.service import free_port


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.with_name("precious").write_text("precious")
    path.symlink_to("precious")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("missing")


KINDS = pytest.mark.parametrize(
    ("make", "words"),
    [(make_fifo, "device or a pipe"), (make_link, "symbolic link"), (make_dangling_link, "symbolic link")],
)


@KINDS
@pytest.mark.parametrize("replace", [True, False])
def test_download_replaces_no_device_pipe_or_symbolic_link(
    longshore: Longshore, tmp_path: Path, make: Callable[[Path], None], words: str, replace: bool
) -> None:
    task = longshore.exports.create("users").wait(60)
    target = tmp_path / "users.csv"
    make(target)
    before = target.lstat()
    with pytest.raises(DownloadError, match=f"not a regular file, but a {words}"):
        task.download(target, replace=replace)
    target = target.rename(tmp_path / Path(task.result).name)
    with pytest.raises(DownloadError, match=words):
        task.download(tmp_path, replace=replace)
    assert os.path.samestat(before, target.lstat())
    assert not list(tmp_path.glob(".*part"))


@KINDS
def test_download_of_many_files_replaces_no_device_pipe_or_symbolic_link(
    longshore: Longshore, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    task = longshore.exports.create(["users", "products"]).wait(60)
    manifest = Path(task.result).name
    for name in (manifest, f"{manifest}.jws", task.files(1)[1].path):
        folder = tmp_path / name.replace("/", "_")
        target = folder / name
        target.parent.mkdir(parents=True)
        make(target)
        before = target.lstat()
        with pytest.raises(DownloadError, match=words):
            task.download(folder)
        assert os.path.samestat(before, target.lstat())


def test_path_that_is_no_regular_file_is_refused_before_anything_is_requested(
    through: Longshore, gateway: Gateway, tmp_path: Path
) -> None:
    task = through.exports.create("users").wait(60)
    os.mkfifo(tmp_path / "pipe")
    gateway.close()
    with pytest.raises(DownloadError, match="not a regular file"):
        task.download(tmp_path / "pipe")


@pytest.mark.parametrize("clobber", [(), ("--clobber",)])
def test_command_replaces_no_symbolic_link(logged_in: Cli, clobber: tuple[str, ...]) -> None:
    make_link(Path("link.csv"))
    code, _, stderr = logged_in("export", "users", "-o", "link.csv", *clobber)
    assert (code, "symbolic link" in stderr, Path("link.csv").is_symlink()) == (2, True, True)
    assert Path("precious").read_text() == "precious"


def test_folder_that_takes_no_files_is_refused_before_the_export(logged_in: Cli) -> None:
    code, out, stderr = logged_in("export", "users", "-o", "/proc/q.csv")
    assert (code, out) == (2, "")
    assert "the folder '/proc' cannot be written to" in stderr


@pytest.mark.parametrize(
    "option", [("--partition-by", "created_date:year"), ("--split-rows", "5"), ("--split-bytes", "9"), ("vouchers",)]
)
def test_command_refuses_a_path_for_many_files_that_is_no_folder_before_the_export(
    logged_in: Cli, longshore: Longshore, option: tuple[str, ...]
) -> None:
    newest = longshore.tasks.list(limit=1)
    Path("file").touch()
    for path in ("nodir", "file"):
        code, out, stderr = logged_in("export", "users", *option, "-o", path)
        assert (code, out) == (2, "")
        assert f"a result of many files needs a folder that exists, not {path}" in stderr
    assert [task.id for task in longshore.tasks.list(limit=1)] == [task.id for task in newest]


@pytest.fixture
def unreachable() -> Longshore:
    """A client whose service does not answer, so that a request that is tried fails otherwise than is expected."""
    return Longshore(f"http://127.0.0.1:{free_port()}", "x:y", chain=1, retry_for=0)


REFUSED: dict[str, tuple[Callable[[Longshore], Any], str]] = {
    "a line end in a header field": (
        lambda client: client.exports.create("users", idempotency_key="a\nb"), r"Idempotency-Key is 'a\\nb'",
    ),
    "a header field that is not ASCII": (
        lambda client: client.exports.create("users", idempotency_key="é"), "printable ASCII",
    ),
    "an empty key of an export": (lambda client: client.exports.create("users", idempotency_key=""), "key` is empty"),
    "an empty key of a task": (lambda client: client.tasks.create({}, idempotency_key=""), "key` is empty"),
    "an empty key of a request": (
        lambda client: client.request("POST", "/tasks", {}, idempotency_key=""), "key` is empty",
    ),
    "a condition as the id of a segment": (
        lambda client: client.exports.create("users", where="amount > 3"), "build rules as F",
    ),
    "a key of a repeated export without its time": (
        lambda client: client.exports.create("users", repeat="daily", idempotency_key="k"), "needs `at`",
    ),
    "a name of a header field": (
        lambda client: client.stream("GET", "/tasks", headers={"a b": "c"}).__enter__(), "'a b' is no name",
    ),
    "text that is no UTF-8": (lambda client: client.exports.create("users", desc="\ud800"), "no text in UTF-8"),
    "a name that is no UTF-8": (lambda client: client.indexes.get("\ud800"), "no text in UTF-8"),
    "a parameter that is no UTF-8": (lambda client: client.tasks.list(action="\ud800"), "no text in UTF-8"),
    "a time that is text": (
        lambda client: client.exports.create("users", at=cast(Any, "2030-01-01")), "`at`: expected a datetime",
    ),
    "a time that is a day": (
        lambda client: client.exports.create("users", until=cast(Any, date(2030, 1, 1))), "`until`: expected",
    ),
    "no number of a task": (lambda client: client.tasks.get(cast(Any, None)), "`id`: expected a whole number"),
    "a fraction as the number of a task": (lambda client: client.tasks.get(cast(Any, 2.5)), "`id`: .* got 2.5"),
    "a negative limit": (lambda client: client.tasks.list(limit=-1), "`limit`: .* got -1"),
    "text as a list of values": (lambda _: F("kind").is_one_of("manual"), "expected a list of values, got 'manual'"),
    "an address of another host": (
        lambda client: client.request("POST", "http://127.0.0.1:1/x", {}), "path of the API .* got 'http://127",
    ),
    "a stream of another host": (
        lambda client: client.stream("POST", "http://127.0.0.1:1/x", {}).__enter__(), "path of the API",
    ),
    "a path without its first slash": (lambda client: client.request("get", "tasks/2"), "path .* got 'tasks/2'"),
    "a method with a space": (lambda client: client.request("GE T", "/tasks"), "expected a method"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_argument_that_cannot_be_sent_is_refused_at_once(unreachable: Longshore, name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(ArgumentError, match=words) as caught:
        call(unreachable)
    assert isinstance(caught.value, ValueError)


def test_awaited_client_refuses_the_same() -> None:
    async def requests() -> None:
        async with AsyncLongshore(f"http://127.0.0.1:{free_port()}", "x:y", chain=1) as client:
            with pytest.raises(ArgumentError, match="path of the API"):
                await client.request("GET", "http://127.0.0.1:1/x")
            with pytest.raises(ArgumentError, match="printable ASCII"):
                await client.exports.create("users", idempotency_key="a\nb")

    asyncio.run(requests())


def test_rule_that_is_no_utf_8_is_refused(longshore: Longshore) -> None:
    with pytest.raises(ArgumentError, match="no text in UTF-8"):
        longshore.exports.create("wallet-ledger", where=F("kind") == "\ud800")


def test_batches_have_at_least_one_row(longshore: Longshore) -> None:
    task = longshore.exports.create("users", format="parquet").wait(60)
    with pytest.raises(ArgumentError, match="`rows`: expected a whole number from 1"):
        next(iter(task.batches(0)))


def test_header_field_with_a_line_end_is_wrong_usage_of_the_command(logged_in: Cli) -> None:
    code, _, stderr = logged_in("request", "GET", "/tasks", "-H", "X: a\nb: c")
    assert (code, bool(re.search("X is .*printable ASCII", stderr))) == (2, True)
