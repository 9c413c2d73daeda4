"""TLS to a PostgreSQL server as in libpq: trusted certificates, and the client's own.

Source: https://www.postgresql.org/docs/current/libpq-ssl.html
"""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeVar

import asyncpg

from longshore.database.connection_uri import VERIFYING, ConnectionUri
from longshore.errors import LongshoreError

T = TypeVar("T")

CLOSED = (ConnectionError, asyncpg.ConnectionDoesNotExistError)
"""The errors of a connection that the server closes: while TLS is agreed on, and afterwards."""


async def open_by_mode(
    mode: str, context: ssl.SSLContext, open_with: Callable[[ssl.SSLContext | Literal[False]], Awaitable[T]]
) -> T:
    """Open a connection with TLS, without TLS (False), or with one and then the other, as an `sslmode` says.

    Where both fail, raises the error of the first, or of the second if the server refused the user there alone.
    """
    match mode:
        case "disable":
            return await open_with(False)
        case "allow" | "prefer":
            pass
        case _:
            return await open_with(context)
    try:
        return await open_with(context if mode == "prefer" else False)
    except (asyncpg.InvalidAuthorizationSpecificationError, *CLOSED, ssl.SSLError) as error:
        if isinstance(error, ConnectionRefusedError):
            raise
        try:
            return await open_with(False if mode == "prefer" else context)
        except asyncpg.InvalidAuthorizationSpecificationError as second:
            # The server refused the first kind of connection, and in the second one the user: that is what to change.
            raise (second if isinstance(error, CLOSED) else error) from None
        except (*CLOSED, ssl.SSLError):
            raise error from None


def ssl_mode(address: ConnectionUri) -> str:
    """Return the `sslmode` of an address.

    asyncpg has no channel binding. Channel binding detects an intermediary between client and server, and so does
    verification of the certificate: `channel_binding=require` therefore implies `verify-full`.
    """
    mode = address.parameters.get("sslmode")
    strict = address.parameters.get("sslrootcert") == "system" or address.parameters.get("channel_binding") == "require"
    if strict and mode not in VERIFYING:
        return "verify-full"
    return mode or "prefer"


def ssl_context(address: ConnectionUri) -> ssl.SSLContext:
    """Return the TLS context for an address. Raises LongshoreError, which names the file and the parameter.

    Unlike in libpq, `allow` and `prefer` ignore root certificates: a certificate that fails to be verified would only
    lead to a connection without TLS.
    """
    mode = ssl_mode(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    if mode not in ("allow", "prefer"):
        _trust(context, address, mode)
    _load_certificate(context, address)
    versions = ssl.TLSVersion.__members__
    lowest, highest = (address.parameters.get(f"ssl_{end}_protocol_version") for end in ("min", "max"))
    context.minimum_version = versions[(lowest or "TLSv1.2").replace(".", "_")]
    if highest:
        context.maximum_version = versions[highest.replace(".", "_")]
    return context


def _trust(context: ssl.SSLContext, address: ConnectionUri, mode: str) -> None:
    roots = address.parameters.get("sslrootcert") or _default("root.crt")
    if roots == "system" or (not roots and address.parameters.get("channel_binding") == "require"):
        context.load_default_certs()
    elif roots:
        _load(context, "sslrootcert", roots)
    elif mode in VERIFYING:
        raise LongshoreError(
            f"sslmode={mode} needs the certificates to trust: set sslrootcert to their file, or sslrootcert=system"
            " for those of this machine"
        )
    else:
        return
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = mode == "verify-full"
    if revoked := address.parameters.get("sslcrl") or _default("root.crl"):
        _load(context, "sslcrl", revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_certificate(context: ssl.SSLContext, address: ConnectionUri) -> None:
    certificate = address.parameters.get("sslcert") or _default("postgresql.crt")
    key = address.parameters.get("sslkey") or _default("postgresql.key")
    if not certificate:
        return
    for name, file in (("sslcert", certificate), ("sslkey", key)):
        if file:
            _check_readable(name, file)
    try:
        context.load_cert_chain(certificate, key, lambda: address.parameters.get("sslpassword", ""))
    except ssl.SSLError as error:
        raise LongshoreError(
            f"sslcert={certificate} and sslkey={key or certificate}: {error.reason or error}"
        ) from None


def _load(context: ssl.SSLContext, name: str, file: str) -> None:
    _check_readable(name, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise LongshoreError(f"{name}={file} has no certificate in PEM form: {error.reason or error}") from None


def _check_readable(name: str, file: str) -> None:
    """Raise LongshoreError if the file cannot be read; the errors of `ssl` do not name it."""
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise LongshoreError(f"{name}={file} cannot be read: {error.strerror}") from None


def _default(name: str) -> str | None:
    """Return the path of a file in ~/.postgresql; None if it does not exist or cannot be read."""
    try:
        file = Path.home() / ".postgresql" / name
        with file.open("rb"):
            return str(file)
    except (OSError, RuntimeError):
        return None
