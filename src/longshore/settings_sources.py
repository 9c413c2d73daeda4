"""Where settings come from: the environment overrides the TOML file, the file the defaults.

An unknown name is an error that suggests the right one, so that a misspelt setting is never silently ignored.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from longshore.database import connection_uri
from longshore.errors import LongshoreError
from longshore.settings import NAMES, SECRETS, URLS, Settings, description

PREFIX = "LONGSHORE_"
CONFIG_VARIABLE = "LONGSHORE_CONFIG"
CLIENT_VARIABLES = ("LONGSHORE_ADDRESS", "LONGSHORE_TOKEN", "LONGSHORE_CHAIN")
"""Settings of the Python client, which may run beside the service."""
DEFAULT_CONFIG = "longshore.toml"
MIN_SECRET_CHARACTERS = 32
PATHS = frozenset({"data", "catalog"})


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
    for name in PATHS & values.keys():
        values[name] = _without_tilde(values[name])
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        value = repr(values.get(name))
        shown = "" if name in SECRETS or value in message else f": {value}"
        raise LongshoreError(f"{name} cannot be used: {message[:1].lower()}{message[1:]}{shown}") from None
    for name, value in values.items():
        if value == "" and "empty:" not in description(name):
            raise LongshoreError(f"{name} is empty; leave it out for its default, {getattr(Settings(), name)}")
    _check(settings)
    return LoadedSettings(settings, origin)


def _from_file(variables: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    named = variables.get(CONFIG_VARIABLE)
    path = Path(_without_tilde(named) if named else DEFAULT_CONFIG)
    if not named and not path.is_file():
        return "", {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LongshoreError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LongshoreError(f"the settings file {path} is no TOML: {error}") from None
    for name in values:
        _refuse_unknown(name, f"`{name}` in {path}", NAMES)
    return str(path).replace("{", "{{").replace("}", "}}"), values


def _from_environment(variables: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    spelled = tuple(PREFIX + name.upper() for name in NAMES)
    for variable, value in variables.items():
        if not variable.startswith(PREFIX) or variable in (CONFIG_VARIABLE, *CLIENT_VARIABLES):
            continue
        _refuse_unknown(variable, variable, (*spelled, CONFIG_VARIABLE))
        values[variable.removeprefix(PREFIX).lower()] = value
    return PREFIX + "{name}", values


def _without_tilde(path: Any) -> Any:
    """Return a path with the home folder in place of `~`, which no shell expands in a file or a unit of systemd."""
    if not isinstance(path, str) or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise LongshoreError(f"{path} is in a home folder that cannot be determined; give the whole path") from None


def _refuse_unknown(name: str, shown: str, names: tuple[str, ...]) -> None:
    if name in names:
        return
    # The common prefix would make any two names similar.
    bare = {known.removeprefix(PREFIX): known for known in names}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), bare, 1, 0.6)
    hint = f"did you mean {bare[near[0]]}?" if near else "`longshore settings` lists what there is"
    raise LongshoreError(f"{shown} is not a setting; {hint}")


def _check(settings: Settings) -> None:
    for name, value in vars(Settings).items():
        if isinstance(value, cached_property):
            getattr(settings, name)
    if any(len(secret) < MIN_SECRET_CHARACTERS for secret in settings.secrets):
        raise LongshoreError(f"secret must have at least {MIN_SECRET_CHARACTERS} characters, each of a list as well")
    for name in URLS:
        if url := getattr(settings, name):
            try:
                connection_uri.parse(url)
            except LongshoreError as error:
                raise LongshoreError(f"{name} cannot be used: {error}") from None
    if settings.public_url and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", settings.public_url):
        raise LongshoreError("public_url must be such as https://exports.example.com")
    if settings.results_url and not re.fullmatch(r"(s3|gs|az)://[^/?#@]+(/[^?#]*)?", settings.results_url):
        raise LongshoreError("results_url must be s3://BUCKET/PREFIX, or the same with gs:// or az://")
