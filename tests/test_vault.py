"""The vault: what it seals, only its chain, owner and secret unseal; a rotation can be interrupted at any time."""

import asyncio
import itertools
import os
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.database.connect import Pool
from longshore.secret_rotation import rotate
from longshore.settings import Settings
from longshore.vault import HEAD_BYTES, SealedValues, Vault, VaultError, open_vault
from tests.service import Longshore, in_own_loop

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
ELSEWHERE = "postgresql://longshore@db.example.com/longshore"


def vault(secret: str, data: Path = Path("nowhere")) -> Vault:
    return open_vault(Settings(secret=secret, data=data))


@given(st.binary(max_size=2000))
def test_any_value_is_unsealed_as_it_was(value: bytes) -> None:
    assert vault(NEW).unseal(1764, "webhook 1", vault(NEW).seal(1764, "webhook 1", value)) == value


def test_megabyte_is_sealed() -> None:
    value = b"\x00\xff" * 500_000
    sealed = vault(NEW).seal(1, "destination 1", value)
    assert vault(NEW).unseal(1, "destination 1", sealed) == value
    assert len(sealed) < len(value) + 200


def test_equal_values_are_sealed_differently() -> None:
    sealed = [vault(NEW).seal(1, "webhook 1", b"secret") for _ in range(2)]
    assert sealed[0][HEAD_BYTES:] != sealed[1][HEAD_BYTES:]


@pytest.mark.parametrize(("chain", "owner"), [(9, "webhook 1"), (1764, "webhook 2"), (1764, "destination 1")])
def test_sealed_value_of_one_owner_is_no_use_to_another(chain: int, owner: str) -> None:
    sealed = vault(NEW).seal(1764, "webhook 1", b"secret")
    for use in (vault(NEW).unseal, vault(NEW).rewrap):
        with pytest.raises(VaultError, match="damaged, or another owner's"):
            use(chain, owner, sealed)


def test_each_changed_or_missing_byte_is_noticed() -> None:
    sealed = vault(NEW).seal(1764, "webhook 1", b"secret")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        for damaged in (changed, sealed[:at]):
            with pytest.raises(VaultError):
                vault(NEW).unseal(1764, "webhook 1", damaged)


def test_all_secrets_of_the_list_unseal_and_the_first_seals() -> None:
    old = vault(OLD).seal(1, "webhook 1", b"secret")
    both = vault(f"{NEW}, {OLD}")
    assert both.unseal(1, "webhook 1", old) == b"secret"
    assert vault(NEW).unseal(1, "webhook 1", both.seal(1, "webhook 1", b"new")) == b"new"


def test_rewrapped_value_needs_the_newest_secret_alone() -> None:
    old = vault(OLD).seal(1, "webhook 1", b"secret")
    new = vault(f"{NEW},{OLD}").rewrap(1, "webhook 1", old)
    assert vault(NEW).unseal(1, "webhook 1", new) == b"secret"
    assert new[HEAD_BYTES:] == old[HEAD_BYTES:]
    with pytest.raises(VaultError):
        vault(OLD).unseal(1, "webhook 1", new)


def test_error_names_the_setting_whose_secret_is_missing() -> None:
    sealed = vault(OLD).seal(1764, "webhook 1", b"secret")
    with pytest.raises(VaultError, match=r"webhook 1 of chain 1764 .* LONGSHORE_SECRET does not have"):
        vault(NEW).unseal(1764, "webhook 1", sealed)


def test_database_of_ones_own_needs_the_setting_once_something_is_sealed(tmp_path: Path) -> None:
    unset = open_vault(Settings(database_url=ELSEWHERE, data=tmp_path))
    for use in (lambda: unset.seal(1, "webhook 1", b"secret"), lambda: unset.digests(b"")):
        with pytest.raises(VaultError, match="LONGSHORE_SECRET is not set"):
            use()
    assert not list(tmp_path.iterdir())
    sealed = vault(OLD).seal(1, "webhook 1", b"secret")
    with pytest.raises(VaultError, match="this machine does not have: set LONGSHORE_SECRET"):
        unset.unseal(1, "webhook 1", sealed)


def test_processes_of_an_embedded_service_share_the_secret_in_its_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda _: vault("", data).seal(1, "webhook 1", b"secret"), range(8)))
    assert {vault("", data).unseal(1, "webhook 1", each) for each in sealed} == {b"secret"}
    assert [path.name for path in data.iterdir()] == ["secret.key"]
    assert (data / "secret.key").stat().st_mode & 0o777 == 0o600


def test_processes_of_serve_know_the_embedded_database_by_its_address(idle_service: Longshore, tmp_path: Path) -> None:
    settings = Settings(data=idle_service.data, database_url=idle_service.url)
    sealed = open_vault(settings).seal(1, "webhook 1", b"secret")
    assert open_vault(Settings(data=idle_service.data)).unseal(1, "webhook 1", sealed) == b"secret"
    with pytest.raises(VaultError, match="not set"):
        open_vault(Settings(data=tmp_path, database_url=idle_service.url)).seal(1, "webhook 1", b"secret")


def test_secret_of_the_data_folder_unseals_beside_the_setting_that_replaces_it(tmp_path: Path) -> None:
    sealed = vault("", tmp_path).seal(1, "webhook 1", b"secret")
    assert vault(NEW, tmp_path).unseal(1, "webhook 1", sealed) == b"secret"
    assert vault(NEW).unseal(1, "webhook 1", vault(NEW, tmp_path).rewrap(1, "webhook 1", sealed)) == b"secret"


def test_prefix_of_a_missing_key_file_is_refused_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"secret\.key is missing: restore"):
        _ = vault("", tmp_path).newest_prefix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [b"", b"short\n"])
def test_key_file_that_is_cut_short_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(text)
    with pytest.raises(VaultError, match=r"secret\.key is cut short"):
        vault("", tmp_path).seal(1, "webhook 1", b"secret")


def test_digest_depends_on_value_and_secret() -> None:
    digests = [vault(secret).digests(value) for secret, value in itertools.product((OLD, NEW), (b"a", b"b"))]
    assert len({digest for (digest,) in digests}) == 4
    assert vault(NEW).digests(b"a") == digests[2]


def test_digests_of_a_value_are_under_each_known_secret_newest_first(tmp_path: Path) -> None:
    (old,), (new,) = vault(OLD).digests(b"a"), vault(NEW).digests(b"a")
    assert vault(f"{NEW},{OLD}").digests(b"a") == [new, old]
    (of_file,) = vault("", tmp_path).digests(b"a")
    assert vault(NEW, tmp_path).digests(b"a") == [new, of_file]


def test_new_key_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, flushed = os.fsync, []

    def noted(opened: int) -> None:
        found = os.fstat(opened)
        flushed.append((stat.S_ISDIR(found.st_mode), found.st_size >= 32, (tmp_path / "secret.key").exists()))
        flush(opened)

    monkeypatch.setattr(os, "fsync", noted)
    vault("", tmp_path).seal(1, "webhook 1", b"secret")
    (is_folder, has_secret, is_named), folder = flushed
    assert (is_folder, has_secret, is_named) == (False, True, False)
    assert (folder[0], folder[2]) == (True, True), "the name too"


WAITING = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
VALUES = SealedValues(
    "values",
    "select id, 1764 as chain, 'value ' || id as owner, sealed from sealed_values",
    "update sealed_values set sealed = $3 where id = $1 and sealed = $2",
)


def with_values(url: str, run: Callable[[Pool], Awaitable[None]]) -> None:
    """Run a function with a table of ten values that are sealed under OLD."""

    async def opened() -> None:
        schema = f"vault_{uuid4().hex}"
        async with asyncpg.create_pool(url, min_size=1, max_size=3, server_settings={"search_path": schema}) as pool:
            await pool.execute(
                f"create schema {schema}; create table sealed_values (id bigint primary key, sealed bytea)"
            )
            for id in range(10):
                value = vault(OLD).seal(1764, f"value {id}", b"%d" % id)
                await pool.execute("insert into sealed_values values ($1, $2)", id, value)
            await run(pool)

    in_own_loop(opened())


async def readable(pool: Pool, secret: str) -> set[int]:
    """The values that a vault with this secret alone can read."""
    found = set()
    for row in await pool.fetch("select id, sealed from sealed_values"):
        try:
            assert vault(secret).unseal(1764, f"value {row['id']}", row["sealed"]) == b"%d" % row["id"]
        except VaultError:
            continue
        found.add(row["id"])
    return found


def test_rotation_killed_in_the_middle_goes_on_where_it_was(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        await pool.execute("""
            create function pause() returns trigger language plpgsql as
            'begin perform pg_advisory_lock(7, 1); perform pg_advisory_unlock(7, 1); return new; end';
            create trigger pause before update on sealed_values for each row when (new.id = 4) execute function pause()
        """)
        both = vault(f"{NEW},{OLD}")
        async with pool.acquire() as blocker:
            await blocker.execute("select pg_advisory_lock(7, 1)")
            rotation = asyncio.create_task(rotate(pool, both, VALUES))
            while not await blocker.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            ):
                assert not rotation.done()
            rotation.cancel()
            await asyncio.wait({rotation})
            await blocker.execute("select pg_advisory_unlock(7, 1)")
        done = await readable(pool, NEW)
        assert 0 < len(done) < 10
        assert await readable(pool, OLD) == set(range(10)) - done
        assert (await rotate(pool, both, VALUES)).rewrapped == 10 - len(done)
        assert await readable(pool, NEW) == set(range(10))
        assert (await rotate(pool, both, VALUES)).rewrapped == 0

    with_values(idle_service.url, run)


def test_rotation_leaves_a_value_that_changed_meanwhile(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        changed = vault(NEW).seal(1764, "value 3", b"3")

        class Changing(Vault):
            def rewrap(self, chain: int, owner: str, sealed: bytes) -> bytes:
                if owner == "value 3":
                    in_own_loop(change())
                return super().rewrap(chain, owner, sealed)

        async def change() -> None:
            connection = await asyncpg.connect(idle_service.url, server_settings={"search_path": schema})
            await connection.execute("update sealed_values set sealed = $1 where id = 3", changed)
            await connection.close()

        schema = await pool.fetchval("select current_schema()")
        outcome = await rotate(pool, Changing([NEW, OLD], Path("nowhere"), may_use_file=False), VALUES)
        assert outcome.rewrapped == 9
        assert await pool.fetchval("select sealed from sealed_values where id = 3") == changed

    with_values(idle_service.url, run)


def test_rotation_reports_values_that_it_cannot_read_and_goes_on(idle_service: Longshore) -> None:
    async def run(pool: Pool) -> None:
        lost = vault(OTHER).seal(1764, "value 3", b"3")
        await pool.execute("update sealed_values set sealed = $1 where id = 3", lost)
        outcome = await rotate(pool, vault(f"{NEW},{OLD}"), VALUES)
        assert outcome.rewrapped == 9
        assert "value 3 of chain 1764" in outcome.failures[0]
        assert await readable(pool, NEW) == set(range(10)) - {3}

    with_values(idle_service.url, run)
