"""One-time codes of six digits that change every 30 seconds (TOTP, RFC 6238).

Codes are computed from a secret, so the secret is encrypted (AES-256-GCM) instead of hashed. The key is not in the
database: it is LONGSHORE_SECRET or, if that is empty, a file in the data folder.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

import pyotp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from longshore.errors import LongshoreError

STEP_SECONDS = 30
MAX_DRIFT_STEPS = 1  # of a clock, either way
ISSUER = "Longshore"
KEY_FILE = "secret.key"
NONCE_BYTES = 12


class SecretBox:
    """Encrypts secrets of users.

    `secret`: the key is derived from it; if it is empty, from a file in the folder `data`, created on first use.
    """

    def __init__(self, secret: str, data: Path) -> None:
        self._secret = secret
        self._file = data / KEY_FILE

    @cached_property
    def _cipher(self) -> AESGCM:
        secret = self._secret.encode() or _read_or_create(self._file)
        return AESGCM(hashlib.sha256(b"longshore totp\n" + secret).digest())

    def seal(self, user: int, text: str) -> bytes:
        """Encrypt a text so that only `open` for the same user decrypts it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), str(user).encode())

    def open(self, user: int, sealed: bytes) -> str:
        """Decrypt a sealed text. Raises LongshoreError."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], str(user).encode()).decode()
        except InvalidTag:
            raise LongshoreError("the key has changed: set LONGSHORE_SECRET to what it was on every machine") from None


def _read_or_create(file: Path) -> bytes:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # The link gives the complete file its name, and fails in the second of two processes, which reads the first's.
        new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key:
            key.write(base64.b64encode(secrets.token_bytes(32)))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(new, file)
        finally:
            new.unlink()
    return file.read_bytes()


def new_secret() -> str:
    """Return a new secret of 160 bits in base32, as authenticator apps expect it."""
    return pyotp.random_base32(32)


def address(secret: str, name: str) -> str:
    """Return the `otpauth:` address that authenticator apps read."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=name, issuer_name=ISSUER)


def step_of(secret: str, code: str, now: float) -> int | None:
    """Return the time step of a code, near `now` (seconds since 1970); None if the code is wrong."""
    codes = pyotp.TOTP(secret, interval=STEP_SECONDS)
    current = int(now) // STEP_SECONDS
    match = None
    for step in range(
        current - MAX_DRIFT_STEPS, current + MAX_DRIFT_STEPS + 1
    ):  # all, so that the time does not tell which
        if hmac.compare_digest(codes.generate_otp(step).encode(), code.encode()):
            match = step
    return match
