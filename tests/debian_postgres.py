"""PostgreSQL 15 and PgBouncer of Debian for tests: real servers in folders of their own, on loopback only.

`make debian` brings the programs. As root, the servers run as the user `nobody`, because PostgreSQL refuses root.
"""

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.service import free_port, in_own_loop, listens

UNPACKED = Path(__file__).parent.parent / ".venv" / "debian"  # where `make debian` puts what the system lacks
USER = "nobody" if os.geteuid() == 0 else None
START_SECONDS = 30.0
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "16MB"}


def programs() -> Path:
    """The folder of PostgreSQL 15's programs."""
    folders = [root / "usr/lib/postgresql/15/bin" for root in (UNPACKED, Path("/"))]
    return next(folder for folder in folders if (folder / "postgres").exists())


def pgbouncer_program() -> Path:
    """The program `pgbouncer`."""
    files = [root / "usr/sbin/pgbouncer" for root in (UNPACKED, Path("/"))]
    return next(file for file in files if file.exists())


class DebianPostgres:
    """One server. `folder` holds its cluster, socket, log and certificates; `port` is on 127.0.0.1 too."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self.log_file = folder / "log"
        self.authority = folder / "authority.pem"  # signs the server's certificate, which names `localhost`
        self.port = free_port()
        self.environment = {"PATH": "/usr/bin:/bin", "LOCPATH": str(folder / "locales"), "LC_ALL": "C"}
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = "postgres", database: str = "postgres", **parameters: str) -> str:
        """The address through the Unix socket, where every role is trusted without a password."""
        query = urlencode({"host": str(self.folder), "port": str(self.port), **parameters}, quote_via=quote)
        return f"postgresql://{quote(role)}@/{quote(database)}?{query}"

    def tcp(
        self, role: str, password: str, database: str = "postgres", host: str = "localhost", **parameters: str
    ) -> str:
        """The address through loopback, where every role needs its password (SCRAM)."""
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{quote(role)}:{quote(password, safe='')}@{host}:{self.port}/{quote(database)}{query}"

    def sql(self, statement: str, *args: Any, database: str = "postgres") -> list[Any]:
        """Run one statement, or a script when there are no arguments and no rows are asked for, as the superuser."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url(database=database))
            try:
                if args or statement.lstrip().lower().startswith(("select", "show", "table")):
                    return list(await connection.fetch(statement, *args))
                await connection.execute(statement)
                return []
            finally:
                await connection.close()

        return in_own_loop(run())

    def start(self, **settings: str) -> None:
        """Start the server and wait until it answers; `settings` are added to those of before."""
        self._settings = {**self._settings, **settings}
        options = {
            **FAST,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "ssl": "on",
            "ssl_cert_file": str(self.folder / "server.pem"),
            "ssl_key_file": str(self.folder / "server.key"),
            **self._settings,
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    programs() / "postgres",
                    "-D",
                    self.cluster,
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stdout=log,
                stderr=log,
                env=self.environment,
                **_identity(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log_file.read_text()[-3000:]
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends all sessions, SIGQUIT is a crash."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)

    def run(self, program: str, *args: str | Path) -> str:
        """Run one of PostgreSQL's programs as the server's user and return what it printed."""
        return _run(self.environment, programs() / program, *args)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return lines[0] == str(self._process and self._process.pid) and lines[7].strip() == "ready"
        return False


@contextlib.contextmanager
def debian_postgres(
    *, locale: str = "C.UTF-8", initdb: tuple[str, ...] = (), settings: Mapping[str, str] | None = None
) -> Iterator[DebianPostgres]:
    """Yield a new, empty server; its superuser is `postgres`, with the password `postgres`.

    `locale`: of the cluster, such as `tr_TR.ISO-8859-9`, which is compiled from Debian's package `locales`;
    `initdb`: more options, such as `--encoding=LATIN1`; `settings`: of the server, by name.
    """
    with _folder() as folder:
        server = DebianPostgres(folder, settings or {})
        _compile(locale, folder / "locales")
        _write_certificates(folder)
        (folder / "password").write_text("postgres")
        auth = (
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--username=postgres",
            f"--pwfile={folder / 'password'}",
        )
        _give_away(folder)
        server.run("initdb", "-D", server.cluster, "--no-sync", *auth, f"--locale={locale}", *initdb)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def standby_of(primary: DebianPostgres) -> Iterator[DebianPostgres]:
    """Yield a hot standby that streams from the primary; `select pg_promote()` makes it a primary."""
    with _folder() as folder:
        standby = DebianPostgres(folder, {"hot_standby": "on"})
        standby.environment = primary.environment
        for name in ("server.pem", "server.key", "authority.pem"):
            shutil.copy(primary.folder / name, folder / name)
        _give_away(folder)
        source = f"host={primary.folder} port={primary.port} user=postgres"
        standby.run("pg_basebackup", "-D", standby.cluster, "-d", source, "-R", "-X", "stream", "--checkpoint=fast")
        try:
            standby.start()
            yield standby
        finally:
            standby.stop()


@contextlib.contextmanager
def pgbouncer(server: DebianPostgres, passwords: Mapping[str, str], **settings: str) -> Iterator[int]:
    """Yield the port on 127.0.0.1 of a PgBouncer in session mode before the server.

    `passwords`: the password of each role, which PgBouncer asks for and signs in with.
    """
    with _folder() as folder:
        port = free_port()
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(folder / "users"),
            "pool_mode": "session",
            **settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        (folder / "users").write_text("".join(f'"{role}" "{word}"\n' for role, word in passwords.items()))
        database = f"* = host=127.0.0.1 port={server.port}"
        (folder / "pgbouncer.ini").write_text(f"[databases]\n{database}\n[pgbouncer]\n{lines}")
        _give_away(folder)
        with (folder / "log").open("wb") as log:
            command = [pgbouncer_program(), folder / "pgbouncer.ini"]
            process = subprocess.Popen(command, stdout=log, stderr=log, **_identity())
        try:
            deadline = time.monotonic() + START_SECONDS
            while not listens("127.0.0.1", port):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short path, for the socket, that the server's user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="pg15-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _identity() -> dict[str, Any]:
    return {"user": USER, "group": "nogroup", "extra_groups": []} if USER else {}


def _give_away(folder: Path) -> None:
    if USER:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, USER, "nogroup")


def _run(environment: Mapping[str, str], *command: str | Path) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, **_identity()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _compile(locale: str, folder: Path) -> None:
    """Compile a locale such as `tr_TR.UTF-8` that the system does not have, for this server alone."""
    if locale.partition(".")[0] in ("C", "POSIX"):
        return
    folder.mkdir()
    language, _, charmap = locale.partition(".")
    subprocess.run(["localedef", "-i", language, "-f", charmap or "UTF-8", folder / locale], check=True, timeout=60)


def _write_certificates(folder: Path) -> None:
    """Write `authority.pem`, and `server.pem` with `server.key`: a certificate for the host `localhost` alone."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own = x509.BasicConstraints(ca=True, path_length=None)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Longshore's test authority")])
    of = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    for file, subject, public, extension in (
        ("authority.pem", by, authority.public_key(), own),
        ("server.pem", of, key.public_key(), names),
    ):
        builder = (
            x509.CertificateBuilder(by, subject, public, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        certificate = builder.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*plain))
    (folder / "server.key").chmod(0o600)
