"""The settings: one frozen struct, read once at the start (`settings_sources`), each parsed into what it means."""

import ipaddress
import os
import re
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from longshore.errors import LongshoreError

CHAIN_DAYS = re.compile(r"([0-9]{1,19})\s*=\s*([0-9]{1,5}(?:\.[0-9]+)?)")
CHAIN_NETWORK = re.compile(r"([1-9][0-9]{0,18})\s*=\s*(\S+)")
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
WINDOW_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(WINDOW_SECONDS)})")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rate(msgspec.Struct, frozen=True):
    """A limit of requests in each window of so many seconds."""

    requests: int
    seconds: int


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The settings. `LONGSHORE_HOST` in the environment is `host` in the TOML file. Properties hold parsed texts."""

    data: Annotated[Path, Meta(description="folder of the embedded database and of the result files")] = Path("data")
    host: Annotated[str, Meta(description="address that the API listens on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="port that the API listens on")] = 8080
    public_url: Annotated[
        str, Meta(description="how clients reach the API, for download addresses; empty: as the request came in")
    ] = ""
    database_url: Annotated[
        str, Meta(description="PostgreSQL 15+ of the service; empty: the embedded one in the data folder")
    ] = ""
    source_url: Annotated[
        str, Meta(description="PostgreSQL with the data to export, which the service only reads; empty: its own")
    ] = ""
    results_url: Annotated[
        str, Meta(description="s3://, gs:// or az:// BUCKET/PREFIX for the result files; empty: the data folder")
    ] = ""
    catalog: Annotated[
        str, Meta(description="TOML file that declares what can be exported; empty: the one that ships")
    ] = ""
    api_processes: Annotated[int, Meta(ge=1, le=64, description="processes that answer HTTP requests")] = 1
    chain_tasks: Annotated[
        int,
        Meta(ge=0, le=1000, description="tasks of one chain that run at a time; 0: half as many as cores, 1 or 2"),
    ] = 0
    result_days: Annotated[
        float, Meta(gt=0, le=3650, description="days that a result is kept; a target's `result_days` may be less")
    ] = 7.0
    chain_result_days: Annotated[
        str, Meta(description="days that the results of some chains are kept, where less: 1764=1, 9=0.5; empty: none")
    ] = ""
    task_days: Annotated[
        float,
        Meta(
            gt=0,
            le=36500,
            description="days that a task is kept after it last changed, once it has ended; one that repeats keeps its"
            " log and all its runs",
        ),
    ] = 365.0
    chain_stored_tasks: Annotated[int, Meta(ge=1, description="tasks that one chain may have stored")] = 200_000
    chain_task_megabytes: Annotated[
        int, Meta(ge=1, description="MB that the texts of one chain's tasks may have: target, trigger, debug")
    ] = 1_000
    chain_result_gigabytes: Annotated[
        int, Meta(ge=1, description="GB of results kept, from which on no further run of a chain begins")
    ] = 1_000
    worker_tasks: Annotated[int, Meta(ge=2, le=64, description="tasks that a worker runs at the same time")] = 4
    export_connections: Annotated[
        int, Meta(ge=0, le=64, description="connections that one export reads with; 0: as many as there are cores")
    ] = 0
    shard_rows: Annotated[
        int, Meta(ge=1, description="exports of more rows are cut into shards of about so many, for all workers")
    ] = 5_000_000
    source_statement_seconds: Annotated[
        int, Meta(ge=0, le=604_800, description="seconds that one statement of an export may take; 0: any number")
    ] = 0
    source_snapshot_seconds: Annotated[
        int, Meta(ge=0, le=604_800, description="seconds that an export may hold its snapshot; 0: any number")
    ] = 0
    source_lag_seconds: Annotated[
        int, Meta(ge=0, le=604_800, description="seconds that a standby may be behind for exports; 0: any number")
    ] = 0
    export_megabytes_per_second: Annotated[
        float, Meta(ge=0, le=100_000, description="MB that one export may write in a second; 0: any number")
    ] = 0.0
    worker_metrics_port: Annotated[
        int, Meta(ge=0, le=65535, description="port on `host` where Prometheus reads the metrics of a worker; 0: none")
    ] = 0
    heartbeat_timeout: Annotated[
        float, Meta(ge=1, le=3600, description="seconds without a heartbeat after which a worker counts as lost")
    ] = 15.0
    shutdown_grace: Annotated[
        float, Meta(ge=0, le=3600, description="seconds for which a worker that stops lets its tasks run")
    ] = 30.0
    session_idle: Annotated[
        float, Meta(ge=60, le=31_536_000, description="seconds without a request after which a user's session ends")
    ] = 3600.0
    session_life: Annotated[
        float, Meta(ge=60, le=31_536_000, description="seconds after which a user's session ends in any case")
    ] = 43_200.0
    secret: Annotated[
        str,
        Meta(
            description="encrypts stored secrets; several, newest first, with commas between; empty: a key in the data"
            " folder, with the embedded database alone"
        ),
    ] = ""
    credential_rate: Annotated[
        str, Meta(description="requests that one token or user may make, such as 6000/minute; empty: any number")
    ] = "6000/minute"
    address_rate: Annotated[str, Meta(description="requests that may come from one address; empty: any number")] = (
        "12000/minute"
    )
    credential_open_requests: Annotated[
        int, Meta(ge=1, le=8000, description="long polls and event streams that one token or user may have open")
    ] = 500
    chain_open_requests: Annotated[
        int, Meta(ge=1, le=8000, description="long polls and event streams that one chain may have open")
    ] = 2000
    address_open_requests: Annotated[
        int, Meta(ge=1, le=8000, description="long polls and event streams that one address may have open")
    ] = 2000
    trusted_proxies: Annotated[
        str,
        Meta(
            description="addresses and networks of proxies whose X-Forwarded-* headers count, with commas between;"
            " empty: none"
        ),
    ] = ""
    cors_origins: Annotated[
        str, Meta(description="origins whose pages may read answers, with commas between; empty: none")
    ] = ""
    outbound_allow: Annotated[
        str,
        Meta(
            description="networks that destinations, webhooks and actions may reach though not public: 10.1.0.0/16,"
            " ::1; empty: none"
        ),
    ] = ""
    chain_outbound_allow: Annotated[
        str,
        Meta(
            description="such networks of some chains, beside those for all: 1764=10.1.0.0/16, 9=10.2.0.5; empty: none"
        ),
    ] = ""
    log_format: Annotated[
        Literal["auto", "console", "json"], Meta(description="auto (console on a terminal, else json), console or json")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """The rate limits by name, `credential` and `address`, without those that allow any number of requests."""
        rates = {}
        for name, text in (("credential", self.credential_rate), ("address", self.address_rate)):
            if text:
                if (match := RATE.fullmatch(text)) is None:
                    raise LongshoreError(f"{name}_rate must be such as 6000/minute")
                rates[name] = Rate(int(match[1]), WINDOW_SECONDS[match[2]])
        return rates

    @cached_property
    def chain_slots(self) -> int:
        """How many tasks of one chain run at the same time."""
        return self.chain_tasks or max(1, min(MAX_DEFAULT_CHAIN_TASKS, (os.cpu_count() or 1) // 2))

    @cached_property
    def result_time_of_chains(self) -> dict[int, timedelta]:
        """The time that results are kept, of the chains in `chain_result_days`."""
        times = {}
        for part in _parts(self.chain_result_days):
            match = CHAIN_DAYS.fullmatch(part)
            if match is None or not float(match[2]):
                raise LongshoreError("chain_result_days must be such as 1764=1, 9=0.5")
            times[int(match[1])] = timedelta(days=float(match[2]))
        return times

    def result_time(self, chain: int) -> timedelta:
        """Return how long the results of a chain are kept."""
        keep = timedelta(days=self.result_days)
        return min(keep, self.result_time_of_chains.get(chain, keep))

    @cached_property
    def proxies(self) -> tuple[Network, ...]:
        """The trusted proxies."""
        return _networks("trusted_proxies", self.trusted_proxies)

    @cached_property
    def secrets(self) -> list[str]:
        """The secrets of the vault, newest first."""
        if self.secret and not all(part.strip() for part in self.secret.split(",")):
            raise LongshoreError("secret has an empty entry in its list, as from a variable that is not set")
        return _parts(self.secret)

    @cached_property
    def outbound_networks(self) -> tuple[Network, ...]:
        """The networks that all chains may reach though they are not public."""
        return _networks("outbound_allow", self.outbound_allow)

    @cached_property
    def outbound_networks_of_chains(self) -> dict[int, tuple[Network, ...]]:
        """The networks that some chains may reach beside those."""
        networks: dict[int, tuple[Network, ...]] = {}
        for part in _parts(self.chain_outbound_allow):
            match = CHAIN_NETWORK.fullmatch(part)
            if match is None:
                raise LongshoreError("chain_outbound_allow must be such as 1764=10.1.0.0/16, 9=10.2.0.5")
            chain = int(match[1])
            networks[chain] = networks.get(chain, ()) + _networks("chain_outbound_allow", match[2])
        return networks

    def outbound_networks_of(self, chain: int) -> tuple[Network, ...]:
        """Return the networks that destinations, webhooks and actions of a chain may reach though not public."""
        return self.outbound_networks + self.outbound_networks_of_chains.get(chain, ())

    @cached_property
    def origins(self) -> list[str]:
        """The origins whose pages may read answers."""
        origins = _parts(self.cors_origins)
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise LongshoreError(f"cors_origins: {origin!r} is no origin such as https://app.example.com")
        return origins


NAMES = tuple(field.name for field in msgspec.structs.fields(Settings))
URLS = ("database_url", "source_url")
SECRETS = frozenset({*URLS, "secret"})
MAX_DEFAULT_CHAIN_TASKS = 2


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _networks(name: str, text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part) for part in _parts(text))
    except ValueError as error:
        raise LongshoreError(f"{name} cannot be used: {error}") from None


def description(name: str) -> str:
    """Return the description of a setting."""
    [kind] = [field.type for field in msgspec.structs.fields(Settings) if field.name == name]
    return next(part.description or "" for part in get_args(kind) if isinstance(part, Meta))
