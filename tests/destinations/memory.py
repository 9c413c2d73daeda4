"""A kind of destination for tests: it keeps files in the memory of this process."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.destinations import DestinationError, File, Kind, Step
from longshore.outbound import Network
from longshore.settings import Settings
from longshore.validation import Violation

PASSWORD = "the right one"


class MemorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the files are kept."""

    shelf: Annotated[str, Meta(min_length=1, description="name of the shelf")]
    username: str = "anna"
    prefix: str = ""
    size: Literal["small", "large"] = "small"
    key: str | None = None


class MemorySecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The secret that opens the shelf."""

    password: str


class MemoryPlace:
    """An open destination."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name, self.files = name, files

    def address(self, path: str) -> str:
        return f"memory://{self.name}/{path}"

    async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> None:
        with file.open() as source:
            new = source.read()
        if not overwrite and self.files.get(path, new) != new:
            raise DestinationError(f"another file is at {path}, of write_id {write_id}")
        self.files[path] = new

    async def read(self, path: str) -> AsyncIterator[bytes]:
        yield self.files[path]

    async def discard(self, path: str, write_id: str) -> None:
        """Nothing is left of an interrupted write."""


shelves: dict[str, dict[str, bytes]] = {}


def memory(_settings: Settings) -> Kind:
    """The kind."""

    @contextlib.asynccontextmanager
    async def opened(
        settings: MemorySettings, secret: MemorySecret, _allow: tuple[Network, ...]
    ) -> AsyncIterator[MemoryPlace]:
        if settings.shelf == "telling":
            raise ValueError(f"no such password: {secret.password!r}")
        if secret.password != PASSWORD:
            raise DestinationError("the password is wrong")
        yield MemoryPlace(settings.shelf, shelves.setdefault(settings.shelf, {}))

    async def test(settings: MemorySettings, secret: MemorySecret, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
        if settings.shelf == "broken":
            raise RuntimeError(f"cannot open it with {secret}")
        if settings.shelf == "late":
            raise TimeoutError
        try:
            async with opened(settings, secret, allow):
                if settings.shelf == "keyed" and settings.key is None:
                    raise DestinationError("the shelf shows the key 'k1'")
                yield Step("connect", True)
        except DestinationError as error:
            yield Step("connect", False, str(error))
            return
        yield Step("write", settings.shelf != "full", "" if settings.shelf != "full" else "the shelf is full")

    def check(settings: Any, secret: Any, _allow: tuple[Network, ...]) -> list[Violation]:
        if settings.shelf == "unchecked":
            raise RuntimeError(f"cannot check {secret}")
        violations = [] if settings.shelf.isascii() else [Violation("expected ASCII", "/settings/shelf")]
        if settings.shelf == "keyed" and settings.key != "k1":
            violations.append(Violation("expected the key of the shelf", "/settings/key"))
        return violations + ([] if secret.password else [Violation("expected a password", "/secret/password")])

    return Kind(MemorySettings, MemorySecret, "files", opened, test, check, frozenset({"prefix"}))
