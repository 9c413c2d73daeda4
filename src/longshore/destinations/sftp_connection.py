"""Connections to SFTP servers: to a checked address, with a pinned host key, by modern algorithms alone.

Nothing of the machine's own user counts: no configuration, key or known host of `~/.ssh`, no agent.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncssh

from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.private_keys import require_cheap_key
from longshore.destinations.servers import checked_addresses
from longshore.destinations.sftp_settings import SftpSecret, SftpSettings
from longshore.outbound import Address, Network, first_reachable
from longshore.validation import in_json

CONNECT_SECONDS = 15.0  # for each address
LOGIN_SECONDS = 30.0
CLOSING_SECONDS = 1.0  # until a connection that breaks is known to be closed
KEEPALIVE_SECONDS = 15  # three without an answer end the connection

# OpenSSH's notation: the library's defaults less what is old. SHA-1, MACs of 64 bits, and logins by Kerberos, which
# would use the machine's tickets.
KEX_ALGORITHMS = "-*sha1*,gss-*,rsa2048*"
MAC_ALGORITHMS = "-*sha1*,umac-64*"
SIGNATURE_ALGORITHMS = "-ssh-rsa,ssh-dss"
HOST_KEY_ALGORITHMS = {"ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"]}  # others are named like their keys
OFFERED = [
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
]  # fmt: skip


@contextlib.asynccontextmanager
async def connected(
    settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]
) -> AsyncIterator[asyncssh.SFTPClient]:
    """Connect, sign in and begin SFTP. Raises DestinationError and DestinationUnavailableError."""
    if not settings.host_key:
        raise DestinationError('"host_key" is not set; the test of the destination shows the key of the server')
    connection = await _signed_in(settings, secret, await checked_addresses(settings.host, settings.port, allow))
    try:
        with connection_errors(settings):
            client = await asyncio.wait_for(_begin_sftp(connection, settings), LOGIN_SECONDS)
        try:
            yield client
        finally:
            client.exit()
    finally:
        connection.abort()
        with contextlib.suppress(Exception):  # whatever ended the connection, it has ended
            await asyncio.wait_for(connection.wait_closed(), CONNECT_SECONDS)


async def _begin_sftp(connection: asyncssh.SSHClientConnection, settings: SftpSettings) -> asyncssh.SFTPClient:
    try:
        return await connection.start_sftp_client()
    except (asyncssh.ChannelOpenError, asyncssh.SFTPError):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(connection.wait_closed()), CLOSING_SECONDS)
            raise DestinationUnavailableError(f"the connection to {settings.server} broke") from None
        # The connection stands, so it is the server that refuses.
        raise DestinationError(f"{settings.server} has no SFTP for {settings.username}") from None


async def _signed_in(
    settings: SftpSettings, secret: SftpSecret, addresses: list[Address]
) -> asyncssh.SSHClientConnection:
    """Connect to the first address that answers, check the host key and sign in."""
    key = public_key(settings.host_key)
    credentials: dict[str, Any] = (
        {"client_keys": [await asyncio.to_thread(_private_key, secret)], "preferred_auth": ["publickey"]}
        if secret.private_key
        else {"client_keys": None, "password": secret.password, "preferred_auth": ["password", "keyboard-interactive"]}
    )

    async def sign_in(address: Address) -> asyncssh.SSHClientConnection:
        with connection_errors(settings):
            try:
                return await asyncssh.connect(
                    str(address), settings.port, username=settings.username, known_hosts=([key], [], []),
                    server_host_key_algs=host_key_algorithms(key), login_timeout=LOGIN_SECONDS,
                    keepalive_interval=KEEPALIVE_SECONDS, **credentials, **_isolation(),
                )  # fmt: skip
            except asyncssh.PermissionDenied:
                what = "key" if secret.private_key else "password"
                raise DestinationError(f"{settings.server} refuses the {what} of {settings.username}") from None

    return await first_reachable(addresses, sign_in, (DestinationUnavailableError,))


def _isolation() -> dict[str, Any]:
    """Return the options by which a connection uses nothing of this machine's user, and no old algorithm."""
    return {
        "config": None, "agent_path": None, "pkcs11_provider": None, "x509_trusted_certs": None,
        "x509_trusted_cert_paths": [], "gss_host": None, "gss_auth": False, "gss_kex": False, "host_based_auth": False,
        "proxy_command": None, "env": {}, "send_env": [], "compression_algs": None, "connect_timeout": CONNECT_SECONDS,
        "kex_algs": KEX_ALGORITHMS, "mac_algs": MAC_ALGORITHMS, "signature_algs": SIGNATURE_ALGORITHMS,
    }  # fmt: skip


async def offered_key(settings: SftpSettings, addresses: list[Address]) -> asyncssh.SSHKey:
    """Return the host key that the server shows; that of the settings where it has several. Raises as `connected`."""
    algorithms = host_key_algorithms(public_key(settings.host_key)) if settings.host_key else OFFERED

    async def ask(address: Address) -> asyncssh.SSHKey:
        with connection_errors(settings):
            async with asyncio.timeout(CONNECT_SECONDS):
                key = await asyncssh.get_server_host_key(
                    str(address), settings.port, config=None, proxy_command=None, kex_algs=KEX_ALGORITHMS,
                    server_host_key_algs=algorithms,
                )  # fmt: skip
            if key is None:
                raise DestinationError(f"{settings.server} shows no host key")
            return key

    return await first_reachable(addresses, ask, (DestinationUnavailableError,))


def host_key_algorithms(key: asyncssh.SSHKey) -> list[str]:
    """Return the algorithms of host keys, those of a pinned key first: a server uses the first one that it has.

    With the others, a server that has another key is known to answer.
    """
    name = key.get_algorithm()
    own = HOST_KEY_ALGORITHMS.get(name, [name])
    return own + [other for other in OFFERED if other not in own]


def public_key(text: str) -> asyncssh.SSHKey:
    """Return a host key of the settings. Raises DestinationError."""
    try:
        return asyncssh.import_public_key(text.strip())
    except (asyncssh.KeyImportError, ValueError):
        raise DestinationError('"host_key" is not an OpenSSH public key such as ssh-ed25519 AAAA…') from None


def _private_key(secret: SftpSecret) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(require_cheap_key(secret.private_key), secret.passphrase or None)
    except asyncssh.KeyEncryptionError:
        raise DestinationError('"passphrase" is wrong or missing: the private key is encrypted') from None
    except (asyncssh.KeyImportError, ValueError, RecursionError):
        # A wrong passphrase of a key in PEM gives other content, which is no key.
        raise DestinationError('"private_key" is no private key of OpenSSH or PEM, or "passphrase" is wrong') from None


@contextlib.contextmanager
def connection_errors(settings: SftpSettings) -> Iterator[None]:
    """Raise DestinationError or DestinationUnavailableError for errors of a connection."""
    server = settings.server
    try:
        yield
    except asyncssh.HostKeyNotVerifiable:
        raise DestinationError(
            f'{server} shows another host key than "host_key"; ask its operator which one is right'
        ) from None
    except asyncssh.KeyExchangeFailed:
        raise DestinationError(
            f"{server} offers outdated algorithms alone (SHA-1, CBC, DSA), which this service does not use"
        ) from None
    except asyncssh.IllegalUserName:
        raise DestinationError(f"{in_json(settings.username)} is no user name") from None
    except (asyncssh.ProtocolNotSupported, asyncssh.ProtocolError):
        raise DestinationUnavailableError(f"{server} does not answer as an SSH server") from None
    except TimeoutError:
        raise DestinationUnavailableError(f"{server} does not answer in time") from None
    except (asyncssh.DisconnectError, asyncssh.ChannelOpenError, OSError):
        raise DestinationUnavailableError(f"the connection to {server} cannot be made or broke") from None
    except ValueError as error:  # of options, such as a machine whose user has no name
        raise DestinationError(f"cannot sign in to {server}: {type(error).__name__}") from None
