"""Stored destinations: opened with their secret by a delivery, and only by those of their chain."""

import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from longshore.database.connect import Pool
from longshore.destinations import DestinationError, DestinationUnavailableError, KindLoadError, load
from longshore.destinations.s3 import s3
from longshore.destinations.s3_settings import S3Secret, S3Settings
from longshore.destinations.stored import Destination, Destinations, NewDestination
from longshore.settings import Settings
from longshore.tasks.model import ChainId
from longshore.vault import open_vault
from tests.destinations.memory import PASSWORD, MemoryPlace, MemorySecret, MemorySettings, memory
from tests.service import Longshore, in_own_loop

CHAIN = ChainId(1764)
SETTINGS = Settings(secret="n" * 32)


def destinations(pool: Pool, settings: Settings = SETTINGS, **kinds: Any) -> Destinations:
    return Destinations(pool, kinds or {"memory": memory(settings)}, open_vault(settings), settings)


def with_pool(service: Longshore, run: Callable[[Pool], Awaitable[None]]) -> None:
    async def opened() -> None:
        async with asyncpg.create_pool(service.url, min_size=1, max_size=2) as pool:
            await run(pool)

    in_own_loop(opened())


async def stored(pool: Pool, password: str = PASSWORD, chain: int = CHAIN, shelf: str = "top") -> Destination:
    """A new destination, of a name of its own."""
    new = NewDestination(f"shelf-{uuid4().hex}", "memory", MemorySettings(shelf), MemorySecret(password))
    async with pool.acquire() as connection, connection.transaction():
        return (await destinations(pool).create(connection, ChainId(chain), new, "user 7")).destination


def test_stored_destination_is_opened_with_its_settings_and_secret(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        async with destinations(pool).open(CHAIN, made.name) as opened:
            assert isinstance(opened, MemoryPlace)
            assert opened.address("x") == "memory://top/x"
        assert await destinations(pool).takes_of(CHAIN, [made.name, "missing"]) == {made.name: "files"}

    with_pool(idle_service, run)


def test_destination_of_another_chain_is_a_missing_one(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool, chain=9)
        with pytest.raises(DestinationError, match="chain 1764 has no destination"):
            async with destinations(pool).open(CHAIN, made.name):
                pass
        assert await destinations(pool).takes_of(CHAIN, [made.name]) == {}

    with_pool(idle_service, run)


def test_secret_copied_into_another_destination_is_not_read(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        theirs, mine = await stored(pool, chain=9), await stored(pool, "mine")
        await pool.execute(
            "update longshore.destinations m set secret = t.secret from longshore.destinations t"
            " where m.id = $1 and t.id = $2",
            mine.id,
            theirs.id,
        )
        with pytest.raises(DestinationUnavailableError, match="another owner's"):
            async with destinations(pool).open(CHAIN, mine.name):
                pass

    with_pool(idle_service, run)


def test_destination_after_a_restart_with_another_secret_waits_for_the_setting(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        with pytest.raises(DestinationUnavailableError, match="LONGSHORE_SECRET does not have"):
            async with destinations(pool, Settings(secret="x" * 32)).open(CHAIN, made.name):
                pass
        async with destinations(pool, Settings(secret=f"{'x' * 32},{'n' * 32}")).open(CHAIN, made.name):
            pass

    with_pool(idle_service, run)


@pytest.mark.parametrize(
    ("column", "error"), [("kind", DestinationUnavailableError), ("settings", DestinationError)]
)  # fmt: skip
def test_destination_that_this_version_cannot_read_says_so(
    idle_service: Longshore, column: str, error: type[Exception]
) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        value = {"kind": "'removed'", "settings": "'{\"bucket\": 1}'"}[column]
        await pool.execute(f"update longshore.destinations set {column} = {value} where id = $1", made.id)
        with pytest.raises(error, match=r"removed|cannot read its settings"):
            async with destinations(pool).open(CHAIN, made.name):
                pass

    with_pool(idle_service, run)


def test_unreadable_secret_is_not_revealed(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        sealed = open_vault(SETTINGS).seal(CHAIN, f"destination {made.id}", b'{"password": ["hunter2"]}')
        await pool.execute("update longshore.destinations set secret = $2 where id = $1", made.id, sealed)
        with pytest.raises(DestinationError, match="send it again") as caught:
            async with destinations(pool).open(CHAIN, made.name):
                pass
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    with_pool(idle_service, run)


def test_error_of_a_kind_that_holds_the_secret_is_not_shown(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool, "it's \\ hunter2", shelf="telling")
        with pytest.raises(DestinationError, match="ValueError, whose message is not shown") as caught:
            async with destinations(pool).open(CHAIN, made.name):
                pass
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    with_pool(idle_service, run)


def test_other_errors_of_a_delivery_are_shown_unchanged(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        with pytest.raises(OSError, match="no space left"):
            async with destinations(pool).open(CHAIN, made.name):
                raise OSError("no space left")

    with_pool(idle_service, run)


def test_kind_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kind-1.dist-info").mkdir()
    (tmp_path / "kind-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: kind\nVersion: 1\n")
    points = tmp_path / "kind-1.dist-info" / "entry_points.txt"
    monkeypatch.syspath_prepend(tmp_path)
    for point, words in (
        (
            "broken = tests.destinations.memory:missing",
            "'broken' of tests.destinations.memory:missing cannot be loaded",
        ),
        ("number = tests.destinations.memory:len", "'number' of .* cannot be loaded"),
        ("shelf = builtins:str", "Kind 'shelf' of builtins:str: it returned str, expected Kind"),
        ("s3 = tests.destinations.memory:memory", "two packages install 's3'"),
    ):
        points.write_text(f"[longshore.destinations]\n{point}\n")
        with pytest.raises(KindLoadError, match=words):
            load(SETTINGS)


def test_error_that_holds_the_secret_is_as_transient_as_it_was(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        made = await stored(pool)
        for error, raised in ((ConnectionResetError, DestinationUnavailableError), (KeyError, DestinationError)):
            with pytest.raises(raised, match=f"{error.__name__}, whose message is not shown"):
                async with destinations(pool).open(CHAIN, made.name):
                    raise error(PASSWORD)

    with_pool(idle_service, run)


def test_errors_may_name_what_the_id_of_a_key_for_s3_is_part_of(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        kind, name = s3(SETTINGS), f"s3-{uuid4().hex}"
        secret = S3Secret("minio", "the-key-of-minio")
        new = NewDestination(name, "s3", S3Settings("exports", endpoint="https://minio.example.com"), secret)
        known = destinations(pool, s3=kind)
        async with pool.acquire() as connection, connection.transaction():
            await known.create(connection, CHAIN, new, "user 7")
        for message, shown in (
            ("minio.example.com is away", "minio.example.com"),
            (secret.secret_access_key, "not shown"),
        ):
            with pytest.raises(DestinationUnavailableError, match=shown):
                async with known.open(CHAIN, name):
                    raise DestinationUnavailableError(message)

    with_pool(idle_service, run)
