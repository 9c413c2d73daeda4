"""The vault: secrets that the service has to use again, such as those of destinations, are stored encrypted.

Each value is encrypted with AES-256-GCM under a data key of its own, and the data key, too, under a key that is derived
from LONGSHORE_SECRET, which is not in the database. Both are bound to the chain and the owner of the value, so that a
sealed value that is copied into another row cannot be read. A rotation encrypts the data keys anew, and leaves the
values as they are.

    version (1 byte) | id of the secret (8) | nonce (12) | encrypted data key (48) | nonce (12) | encrypted value
"""

import contextlib
import os
import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from longshore.database.embedded import embedded_url, has_database
from longshore.durable_files import sync_folder, write_file
from longshore.errors import ProblemError
from longshore.settings import Settings

VERSION = b"\x01"
ID_BYTES = 8
PREFIX_BYTES = len(VERSION) + ID_BYTES
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16
HEAD_BYTES = PREFIX_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES

KEY_FILE = "secret.key"
SHARED_CHAIN = 0
"""The chain of values that belong to no chain, such as the one-time codes of users."""


class VaultError(ProblemError):
    """A secret cannot be sealed or unsealed; the message names the setting to change."""

    def __init__(self, message: str) -> None:
        super().__init__("secrets-unavailable", message)


class Secret:
    """One secret of LONGSHORE_SECRET, with the keys that are derived from it."""

    def __init__(self, text: bytes) -> None:
        derived = HKDF(SHA256(), 2 * KEY_BYTES + ID_BYTES, None, b"longshore vault").derive(text)
        self.wrapping = AESGCM(derived[:KEY_BYTES])
        self._digest_key = derived[KEY_BYTES : 2 * KEY_BYTES]
        self.prefix = VERSION + derived[2 * KEY_BYTES :]
        """The first bytes of all that is sealed under it."""

    def digest(self, value: bytes) -> str:
        """Return a digest that only who has the secret can compute."""
        mac = HMAC(self._digest_key, SHA256())
        mac.update(value)
        return mac.finalize().hex()


class Vault:
    """Encrypts secrets under the newest of the service's secrets, and decrypts those sealed under any of them."""

    def __init__(self, texts: Sequence[str], file: Path, *, may_use_file: bool) -> None:
        """`texts`: the secrets of LONGSHORE_SECRET, newest first.

        `file`: a file with a secret, which unseals beside them if it exists. `may_use_file`: whether it is created and
        seals where `texts` is empty.
        """
        self._texts = texts
        self._file = file
        self._may_use_file = may_use_file

    def seal(self, chain: int, owner: str, value: bytes) -> bytes:
        """Encrypt a value of an owner, such as `webhook 0b9f…`. Raises VaultError."""
        key = AESGCM.generate_key(KEY_BYTES * 8)
        associated = _associated_data(chain, owner)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return _head(self._newest, key, associated) + nonce + AESGCM(key).encrypt(nonce, value, associated)

    def unseal(self, chain: int, owner: str, sealed: bytes) -> bytes:
        """Decrypt a value that `seal` encrypted for the same chain and owner. Raises VaultError."""
        key = self._data_key(chain, owner, sealed)
        nonce, value = sealed[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES], sealed[HEAD_BYTES + NONCE_BYTES :]
        try:
            return AESGCM(key).decrypt(nonce, value, _associated_data(chain, owner))
        except (InvalidTag, ValueError):
            raise _damaged(chain, owner) from None

    def rewrap(self, chain: int, owner: str, sealed: bytes) -> bytes:
        """Return a sealed value with its data key sealed under the newest secret. Raises VaultError."""
        key = self._data_key(chain, owner, sealed)
        return _head(self._newest, key, _associated_data(chain, owner)) + sealed[HEAD_BYTES:]

    @property
    def newest_prefix(self) -> bytes:
        """The first bytes of all that is sealed under the newest secret. Makes no secret. Raises VaultError."""
        if self._may_use_file and not self._texts and not os.access(self._file, os.F_OK):
            raise VaultError(
                f"{self._file} is missing: restore the secret of this installation from a backup, or start the service,"
                " which makes a secret, if nothing is stored yet"
            )
        return self._newest.prefix

    def prefixes(self) -> list[bytes]:
        """Return the first bytes of all that is sealed under each secret that unseals, newest secret first. Blocking.

        There are none where the file of the secret cannot be used.
        """
        try:
            return [secret.prefix for secret in self._known]
        except VaultError:  # as sealing and unsealing will say
            return []

    def digests(self, value: bytes) -> list[str]:
        """Return the digests of a value under each known secret, newest first.

        Without a secret, a digest cannot be used to test guesses. Raises VaultError where there is none to seal under.
        """
        return [secret.digest(value) for secret in (self._newest, *self._known[1:])]

    def _data_key(self, chain: int, owner: str, sealed: bytes) -> bytes:
        prefix, rest = sealed[:PREFIX_BYTES], sealed[PREFIX_BYTES:HEAD_BYTES]
        if len(sealed) < HEAD_BYTES or prefix[:1] != VERSION:
            raise _damaged(chain, owner)
        secret = next((secret for secret in self._known if secret.prefix == prefix), None)
        if secret is None:
            remedy = (
                "that LONGSHORE_SECRET does not have: add that one to the end of its list, on every machine"
                if self._texts
                else f"that this machine does not have: set LONGSHORE_SECRET to it, or restore {self._file.name}"
            )
            raise VaultError(f"the secret of {_shown(chain, owner)} was sealed under a secret {remedy}")
        try:
            return secret.wrapping.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], _associated_data(chain, owner))
        except InvalidTag:
            raise _damaged(chain, owner) from None

    @property
    def _newest(self) -> Secret:
        if not self._texts and not self._may_use_file:
            raise VaultError(
                "LONGSHORE_SECRET is not set, and no secret is stored without it: set it to what"
                " `openssl rand -base64 32` prints, to the same on every machine, and keep it"
            )
        return self._known[0]

    @property
    def _known(self) -> list[Secret]:
        """The secrets that unseal, newest first."""
        return [*self._listed, *([self._of_file] if self._has_file() else [])]

    def _has_file(self) -> bool:
        return "_of_file" in vars(self) or os.access(self._file, os.F_OK) or (self._may_use_file and not self._texts)

    @cached_property
    def _listed(self) -> list[Secret]:
        return [Secret(text.encode()) for text in self._texts]

    @cached_property
    def _of_file(self) -> Secret:
        return Secret(_read_or_create(self._file))


def open_vault(settings: Settings) -> Vault:
    """Return the vault of a service. Only with the embedded database it may use a secret of the data folder."""
    return Vault(settings.secrets, settings.data / KEY_FILE, may_use_file=_is_embedded(settings))


def _is_embedded(settings: Settings) -> bool:
    """Return whether the database is the embedded one.

    The API's processes have its address in LONGSHORE_DATABASE_URL.
    """
    if not settings.database_url:
        return True
    return has_database(settings.data) and settings.database_url == embedded_url(settings.data)


def _head(secret: Secret, key: bytes, associated: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return secret.prefix + nonce + secret.wrapping.encrypt(nonce, key, associated)


def _associated_data(chain: int, owner: str) -> bytes:
    return f"{chain} {owner}".encode()


def _shown(chain: int, owner: str) -> str:
    return owner if chain == SHARED_CHAIN else f"{owner} of chain {chain}"


def _damaged(chain: int, owner: str) -> VaultError:
    return VaultError(
        f"the sealed secret of {_shown(chain, owner)} is damaged, or another owner's: set the secret again"
    )


def _read_or_create(file: Path) -> bytes:
    """Return the secret in a file, which is created with a new one. Raises VaultError."""
    try:
        _create(file)
        text = file.read_bytes().strip()
    except OSError as error:
        raise VaultError(f"{file} cannot be used: {error.strerror}; it holds the secret of this installation") from None
    if len(text) < KEY_BYTES:
        raise VaultError(f"{file} is cut short: restore the secret of this installation from a backup")
    return text


def _create(file: Path) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # The link gives the complete file its name, and fails in the second of two processes, which reads the first's.
        new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        write_file(new, secrets.token_urlsafe(KEY_BYTES).encode())
        try:
            with contextlib.suppress(FileExistsError):
                os.link(new, file)
        finally:
            new.unlink()
        sync_folder(file.parent)  # before something is sealed, which nothing could unseal if the name were lost


class SealedValues(msgspec.Struct, frozen=True):
    """Where a table keeps sealed values, for their rotation."""

    name: str
    """Of the values, such as `destinations`."""
    select: str
    """Select `id`, `chain`, `owner` and `sealed` of the values; null where there is none."""
    replace: str
    """Update the value `$2` of `$1`, an id, to `$3`, if it has not changed meanwhile."""
