"""One-time codes of six digits that change every 30 seconds (TOTP, RFC 6238).

Codes are computed from a secret, so the secret is in the vault instead of hashed.
"""

import hmac

import pyotp

from longshore.vault import SHARED_CHAIN, Vault

STEP_SECONDS = 30
MAX_DRIFT_STEPS = 1  # of a clock, either way
ISSUER = "Longshore"


def seal(vault: Vault, user: int, secret: str) -> bytes:
    """Encrypt the secret of a user. Raises VaultError."""
    return vault.seal(SHARED_CHAIN, _owner(user), secret.encode())


def unseal(vault: Vault, user: int, sealed: bytes) -> str:
    """Decrypt the secret of a user. Raises VaultError."""
    return vault.unseal(SHARED_CHAIN, _owner(user), sealed).decode()


def _owner(user: int) -> str:
    return f"user {user}"


def new_secret() -> str:
    """Return a new secret of 160 bits in base32, as authenticator apps expect it."""
    return pyotp.random_base32(32)


def otpauth_uri(secret: str, name: str) -> str:
    """Return the `otpauth:` address that authenticator apps read."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=name, issuer_name=ISSUER)


def step_of(secret: str, code: str, now: float) -> int | None:
    """Return the time step of a code, near `now` (seconds since 1970); None if the code is wrong."""
    codes = pyotp.TOTP(secret, interval=STEP_SECONDS)
    current = int(now) // STEP_SECONDS
    match = None
    # All of them, so that the time that this takes does not show which one matched.
    for step in range(current - MAX_DRIFT_STEPS, current + MAX_DRIFT_STEPS + 1):
        if hmac.compare_digest(codes.generate_otp(step).encode(), code.encode()):
            match = step
    return match
