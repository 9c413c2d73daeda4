"""Passcodes of six digits that change every 30 seconds (TOTP, RFC 6238), each good once.

The secret behind them has to be readable, so it is encrypted (AES-256-GCM) with a key that is not in the database:
LONGSHORE_SECRET, or where that is empty a file in the data folder. A copy of the database gives nobody a passcode.
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

STEP = 30  # seconds
DRIFT = 1  # steps that a clock may be off, either way
ISSUER = "Longshore"
KEY_FILE = "secret.key"
NONCE = 12  # bytes


class SecretError(LongshoreError):
    """What was encrypted cannot be read with the key that is set."""


class SecretBox:
    """Encrypts what has to be readable, for one user each.

    `secret`: what the key is made of; where it is empty, a file in the folder `data`, made when it is first needed.
    """

    def __init__(self, secret: str, data: Path) -> None:
        self._secret = secret
        self._file = data / KEY_FILE

    @cached_property
    def _cipher(self) -> AESGCM:
        secret = self._secret.encode() or _read_or_make(self._file)
        return AESGCM(hashlib.sha256(b"longshore totp\n" + secret).digest())

    def seal(self, user: int, text: str) -> bytes:
        """Encrypt; what is sealed for one user is no good for another."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), str(user).encode())

    def open(self, user: int, sealed: bytes) -> str:
        """Decrypt. Raises SecretError."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], str(user).encode()).decode()
        except InvalidTag:
            raise SecretError("the key has changed: set LONGSHORE_SECRET to what it was on every machine") from None


def _read_or_make(file: Path) -> bytes:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # Whole at once under its name, as another process may be here as well; whoever is second takes the first's.
        made = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key:
            key.write(base64.b64encode(secrets.token_bytes(32)))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(made, file)
        finally:
            made.unlink()
    return file.read_bytes()


def new_secret() -> str:
    """A new secret of 160 bits, as authenticators take it (base32)."""
    return pyotp.random_base32(32)


def address(secret: str, name: str) -> str:
    """The `otpauth:` address that authenticators read."""
    return pyotp.TOTP(secret, interval=STEP).provisioning_uri(name=name, issuer_name=ISSUER)


def step_of(secret: str, passcode: str, now: float) -> int | None:
    """The time step that a passcode is of, near `now` (seconds since 1970); None when it is wrong."""
    made = pyotp.TOTP(secret, interval=STEP)
    current = int(now) // STEP
    found = None
    for step in range(current - DRIFT, current + DRIFT + 1):  # all of them, so that no time tells which one it was
        if hmac.compare_digest(made.generate_otp(step).encode(), passcode.encode()):
            found = step
    return found
