"""The settings: one frozen struct, read once at the start from the environment and a TOML file.

The environment overrides the file, the file the defaults. An unknown name is an error that suggests the right one, so
that a misspelt setting is never silently ignored.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from limits import RateLimitItem, parse
from msgspec import Meta

from longshore.database import address
from longshore.errors import LongshoreError

PREFIX = "LONGSHORE_"
CONFIG_VARIABLE = "LONGSHORE_CONFIG"
DEFAULT_CONFIG = "longshore.toml"
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings. `LONGSHORE_HOST` in the environment is `host` in the TOML file."""

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
        str, Meta(description="PostgreSQL with the data to export, only read; empty: the service's own")
    ] = ""
    results_url: Annotated[
        str, Meta(description="s3://, gs:// or az:// BUCKET/PREFIX for the result files; empty: the data folder")
    ] = ""
    catalog: Annotated[
        str, Meta(description="TOML file that declares what can be exported; empty: the one that ships")
    ] = ""
    api_processes: Annotated[int, Meta(ge=1, le=64, description="processes that answer HTTP requests")] = 1
    chain_tasks: Annotated[int, Meta(ge=1, le=1000, description="tasks of one chain that run at the same time")] = 2
    result_days: Annotated[
        float, Meta(gt=0, le=3650, description="days that a result is kept; a target's `result_days` may be less")
    ] = 7.0
    chain_result_days: Annotated[
        str, Meta(description="days that the results of some chains are kept, where less: 1764=1, 9=0.5")
    ] = ""
    task_days: Annotated[
        float, Meta(gt=0, le=36500, description="days that a task is kept after it last changed, once it has ended")
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
        int, Meta(ge=0, le=604_800, description="seconds that a replica may be behind for exports; 0: any number")
    ] = 0
    export_megabytes_per_second: Annotated[
        float, Meta(ge=0, le=100_000, description="what one export may write, in MB a second; 0: any")
    ] = 0.0
    worker_metrics_port: Annotated[
        int, Meta(ge=0, le=65535, description="port on `host` that a worker tells Prometheus at; 0: none")
    ] = 0
    heartbeat_timeout: Annotated[
        float, Meta(ge=1, le=3600, description="seconds without a heartbeat after which a worker counts as lost")
    ] = 15.0
    shutdown_grace: Annotated[
        float, Meta(ge=0, le=3600, description="seconds that a worker which is told to stop lets its tasks run on")
    ] = 30.0
    session_idle: Annotated[
        float, Meta(ge=60, le=31_536_000, description="seconds without a request after which a person's session ends")
    ] = 3600.0
    session_life: Annotated[
        float, Meta(ge=60, le=31_536_000, description="seconds after which a person's session ends in any case")
    ] = 43_200.0
    secret: Annotated[
        str, Meta(description="encrypts passcode secrets; empty: the key in the data folder, made at its first use")
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
        str, Meta(description="addresses and networks, with commas between, whose X-Forwarded-* are believed")
    ] = ""
    cors_origins: Annotated[
        str, Meta(description="origins whose pages may read answers, with commas between; empty: none")
    ] = ""
    outbound_allow: Annotated[
        str, Meta(description="networks that webhooks may reach though not public, as 10.1.0.0/16, 127.0.0.1")
    ] = ""
    log_format: Annotated[
        Literal["auto", "console", "json"], Meta(description="auto (console on a terminal, else json), console or json")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    @property
    def results_folder(self) -> Path:
        """The folder of result files in the local store."""
        return self.data / "results"


NAMES = tuple(field.name for field in msgspec.structs.fields(Settings))
URLS = ("database_url", "source_url")
SECRETS = frozenset({*URLS, "secret"})
MIN_SECRET_CHARACTERS = 32


class LoadedSettings(msgspec.Struct, frozen=True):
    """The settings, with the source of each, for `longshore settings`."""

    settings: Settings
    origin: dict[str, str]


def load(environment: Mapping[str, str] | None = None) -> LoadedSettings:
    """Read the settings.

    `environment`: the variables to read, by default the process's own.
    Raises LongshoreError for an unknown name, a value of the wrong kind, or a file that is missing or no TOML.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origin = dict.fromkeys(NAMES, "default")
    for source, found in (_from_file(variables), _from_environment(variables)):
        for name, value in found.items():
            values[name] = value
            origin[name] = source.format(name=name.upper())
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise LongshoreError(f"{path.rstrip('`')} cannot be used: {message[:1].lower()}{message[1:]}") from None
    _check(settings)
    return LoadedSettings(settings, origin)


def _from_file(variables: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    named = variables.get(CONFIG_VARIABLE)
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return "", {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LongshoreError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LongshoreError(f"the settings file {path} is no TOML: {error}") from None
    for name in values:
        _known(name, f"`{name}` in {path}", NAMES)
    return str(path).replace("{", "{{").replace("}", "}}"), values


def _from_environment(variables: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    spelled = tuple(PREFIX + name.upper() for name in NAMES)
    for variable, value in variables.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        _known(variable, variable, (*spelled, CONFIG_VARIABLE))
        values[variable.removeprefix(PREFIX).lower()] = value
    return PREFIX + "{name}", values


def _known(name: str, shown: str, names: tuple[str, ...]) -> None:
    if name in names:
        return
    # The common prefix would make any two names similar.
    bare = {known.removeprefix(PREFIX): known for known in names}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), bare, 1, 0.6)
    hint = f"did you mean {bare[near[0]]}?" if near else "`longshore settings` lists what there is"
    raise LongshoreError(f"{shown} is not a setting; {hint}")


def _check(settings: Settings) -> None:
    if settings.secret and len(settings.secret) < MIN_SECRET_CHARACTERS:
        raise LongshoreError(f"secret must have at least {MIN_SECRET_CHARACTERS} characters")
    _check_amounts(settings)
    _check_lists(settings)
    _check_addresses(settings)


def _check_amounts(settings: Settings) -> None:
    for name in ("credential_rate", "address_rate"):
        try:
            rate(getattr(settings, name))
        except ValueError:
            raise LongshoreError(f"{name} must be such as 6000/minute") from None
    try:
        days_of_chains(settings.chain_result_days)
    except (ValueError, OverflowError):
        raise LongshoreError("chain_result_days must be such as 1764=1, 9=0.5") from None


def _check_lists(settings: Settings) -> None:
    for proxy in parts(settings.trusted_proxies):
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise LongshoreError(f"trusted_proxies: {proxy!r} is no address and no network") from None
    for origin in parts(settings.cors_origins):
        if not ORIGIN.fullmatch(origin):
            raise LongshoreError(f"cors_origins: {origin!r} is no origin such as https://app.example.com")
    if settings.outbound_allow:
        from longshore import outbound  # slow to import, and rarely needed

        try:
            outbound.networks(settings.outbound_allow)
        except ValueError as error:
            raise LongshoreError(f"outbound_allow cannot be used: {error}") from None


def _check_addresses(settings: Settings) -> None:
    for name in URLS:
        if url := getattr(settings, name):
            try:
                address.parse(url)
            except LongshoreError as error:
                raise LongshoreError(f"{name} cannot be used: {error}") from None
    if settings.public_url and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", settings.public_url):
        raise LongshoreError("public_url must be such as https://exports.example.com")
    if settings.results_url and not re.fullmatch(r"(s3|gs|az)://[^/?#@]+(/[^?#]*)?", settings.results_url):
        raise LongshoreError("results_url must be s3://BUCKET/PREFIX, or the same with gs:// or az://")


def parts(text: str) -> list[str]:
    """Return the parts of a setting that is a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def days_of_chains(text: str) -> dict[int, timedelta]:
    """Return the time that results are kept, by chain, from the setting `chain_result_days`. Raises ValueError."""
    found = {}
    for part in parts(text):
        chain, _, days = part.partition("=")
        found[int(chain)] = timedelta(days=float(days))
        if not timedelta(0) < found[int(chain)]:
            raise ValueError(part)
    return found


def rate(text: str) -> RateLimitItem | None:
    """Return a rate such as `6000/minute`; None for no limit. Raises ValueError."""
    return parse(text) if text else None


def description(name: str) -> str:
    """Return the description of a setting."""
    field = next(field for field in msgspec.structs.fields(Settings) if field.name == name)
    meta = next(part for part in get_args(field.type) if isinstance(part, Meta))
    return meta.description or ""
