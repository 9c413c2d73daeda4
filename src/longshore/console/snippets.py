"""The request of the form of a new export, as `curl`, the Python client and the command line make it."""

import json
import shlex
from decimal import Decimal
from typing import Any

import msgspec

from longshore.api.new_task import STORED
from longshore.console.copied_export import SHARED_KEYS, ExportBody, column_names

TARGET_KEYS = (
    "fields", "compression", "csv", "incremental", "deletes", "split", "partition_by", "share_as", "deliver", "schema"
)  # fmt: skip
"""Keys of a target that `exports.create` of the client has by the same name."""
TIME_PARAMETERS = ("at", "until")
"""Parameters of `exports.create` that take a `datetime`."""


class Snippets(msgspec.Struct, frozen=True):
    """The same request for other programs. `python` and `cli` end with a comment that names the parts they lack."""

    curl: str
    python: str
    cli: str


def snippets_of(export: ExportBody, chain: int, address: str, *, is_later: bool) -> Snippets:
    """Return the snippets of an export. `address`: of the service. `is_later`: whether it begins at a time."""
    once = export.trigger.get("once") if is_later else None
    return Snippets(
        curl=_curl(export, chain, address),
        python=_python(export, chain, address, once),
        cli=_cli(export, once),
    )


def _curl(export: ExportBody, chain: int, address: str) -> str:
    body = {"chain": chain, "desc": export.desc, "target": export.target, "trigger": export.trigger}
    return (
        f"curl {address}/tasks \\\n"
        '  -H "Authorization: Bearer $TOKEN" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(STORED.encode(body).decode())}"
    )


def _python(export: ExportBody, chain: int, address: str, once: str | None) -> str:
    target, trigger = export.target, export.trigger
    indexes = target.get("export_indexes") or target["export_index"]
    parameters = {
        "format": target["export_format"],
        "where": trigger.get("segment_id") or trigger.get("segment"),
        **{key: target.get(key) for key in TARGET_KEYS},
        "at": once,
        **{key: trigger.get(key) for key in ("repeat", "cron", "timezone", "catch_up", "until")},
        "desc": export.desc,
    }
    arguments = [
        f"    {name}={_parameter(name, value)}," for name, value in parameters.items() if value not in (None, "", False)
    ]
    lines = [
        *(["from datetime import datetime"] if any(parameters[name] for name in TIME_PARAMETERS) else []),
        *(["from decimal import Decimal"] if any("Decimal(" in argument for argument in arguments) else []),
        "from longshore import Longshore",
        "",
        f"client = Longshore({_literal(address)}, token, chain={chain})",
        "task = client.exports.create(",
        f"    {_literal(indexes)},",
        *arguments,
        ")",
        *([] if once or trigger.get("repeat") or trigger.get("cron") else ["task.wait()", "task.download()"]),
    ]
    return "\n".join(lines) + _not_by("the client", _api_only(target))


def _parameter(name: str, value: Any) -> str:
    return f"datetime.fromisoformat({_literal(value)})" if name in TIME_PARAMETERS else _literal(value)


def _literal(value: Any) -> str:
    """Return a JSON value as an expression in Python. Numbers keep their digits."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_literal(key)}: {_literal(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Decimal() if Decimal(repr(float(value))) != value:  # a float would have other digits
            return f'Decimal("{value}")'
    return str(value)


def _cli(export: ExportBody, once: str | None) -> str:
    target, trigger = export.target, export.trigger
    fields, keys, split = target.get("fields", []), target.get("partition_by", []), target.get("split", {})
    segment, index = trigger.get("segment"), target.get("export_index")
    stored = _stored(segment, index, export.desc) if segment and index else ""
    options = [
        ("format", target["export_format"]),
        ("segment", trigger.get("segment_id")),
        *(("field", each) for each in column_names(fields) if isinstance(fields, list)),
        *(("partition-by", ":".join(each.values())) for each in keys if isinstance(keys, list)),
        *((f"split-{unit}", size) for unit, size in split.items()),
        ("compression", target.get("compression")),
        ("share-as", target.get("share_as")),
        *(("deliver", _delivery(each)) for each in target.get("deliver", [])),
        ("at", once),
        *((name, trigger.get(name)) for name in ("repeat", "cron", "timezone")),
        ("desc", export.desc),
    ]
    words = ["longshore export", *(target.get("export_indexes") or [target["export_index"]])]
    words += ['--segment "$segment"'] * bool(stored)
    words += [f"--{name} {shlex.quote(str(value))}" for name, value in options if value]
    has_deletes = bool(target.get("deletes")) and target.get("incremental") is True
    beyond = {
        "schema": target.get("schema"),
        "rules of several indexes: store them and name the segment": segment and not stored,
        "csv": target.get("csv"),
        "incremental": target.get("incremental") and not has_deletes,
        "names of columns": isinstance(fields, list) and column_names(fields) != fields,
        "fields of one of several indexes": isinstance(fields, dict),
        "partition_by of one of several indexes": isinstance(keys, dict),
        "until": trigger.get("until"),
        "catch_up": trigger.get("catch_up"),
    }
    text = stored + " ".join(words + ["--deletes"] * has_deletes)
    return text + _not_by("the command line", _api_only(target) + [name for name, found in beyond.items() if found])


def _stored(segment: Any, index: str, name: str) -> str:
    """Return the command that stores the rules, as a line that sets the variable `segment` to its id."""
    rules, name = shlex.quote(STORED.encode(segment).decode()), shlex.quote(name or f"rows of {index}")
    return f"segment=$(printf %s {rules} | longshore segments create {name} --index {index} --input -)\n"


def _delivery(entry: dict[str, Any]) -> str:
    """Return an entry of `deliver` as `longshore export --deliver` takes it."""
    texts = {key: str(value).lower() if isinstance(value, bool) else value for key, value in entry.items()}
    name = texts.pop("destination")
    if ":" in name or name.startswith("{") or any("," in text or not text for text in texts.values()):
        return STORED.encode(entry).decode()
    return name + (":" + ",".join(f"{key}={text}" for key, text in texts.items()) if texts else "")


def _api_only(target: dict[str, Any]) -> list[str]:
    return [key for key in SHARED_KEYS if key in target]


def _not_by(what: str, names: list[str]) -> str:
    return f"\n# not by {what}: {'; '.join(names)}" if names else ""
