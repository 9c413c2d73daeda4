"""The form of a new export, as a browser sends it without a script. The API's own function creates the task."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from litestar import post
from litestar.params import RawBody
from litestar.response import Redirect

from longshore.api.guard import admitted
from longshore.api.service import AnyRequest
from longshore.api.tasks import create


@post("/console/{chain:int}/new", include_in_schema=False)
async def create_export(request: AnyRequest, body: RawBody) -> Redirect:
    """Create the export of a form, and show its page."""
    _, caller = admitted(request)
    pairs = parse_qsl(body.decode("utf-8", "replace"))
    fields = dict(pairs)
    indexes = [fields.get("index", ""), *(value for name, value in pairs if name == "more")]
    value = {
        "chain": caller.chain,
        "desc": fields.get("desc", ""),
        "target": _target(fields, list(dict.fromkeys(indexes))),
        "trigger": _trigger(fields),
    }
    id, _, _ = await create(request, value)
    return Redirect(f"/console/{caller.chain}/tasks/{id}", status_code=303)


def _target(fields: dict[str, str], indexes: list[str]) -> dict[str, Any]:
    target: dict[str, Any] = {"action": "export", "export_format": fields.get("format", "")}
    target |= {"export_index": indexes[0]} if len(indexes) == 1 else {"export_indexes": indexes}
    if "compression" in fields:
        target["compression"] = fields["compression"]
    if target["export_format"] == "csv" and fields.get("profile", "rfc4180") != "rfc4180":
        target["csv"] = {"profile": fields["profile"]}
    if "incremental" in fields:
        target["incremental"] = {"true": True}.get(fields["incremental"], fields["incremental"])
    if "deletes" in fields:
        target["deletes"] = True
    if "split" in fields:
        target["split"] = {fields.get("unit", "rows"): _number(fields["split"])}
    if "partition" in fields:
        keys = [_key(text) for text in fields["partition"].split(",")]
        target["partition_by"] = keys if len(indexes) == 1 else {indexes[0]: keys}
    if "share_as" in fields:
        target["share_as"] = fields["share_as"]
    if "deliver" in fields:
        target["deliver"] = [_delivery(fields)]
    return target


def _delivery(fields: dict[str, str]) -> dict[str, Any]:
    """Return the entry of `deliver`; the API says which of the two the destination takes."""
    entry: dict[str, Any] = {"destination": fields["deliver"]}
    if "table" in fields:
        return entry | {"table": fields["table"], "mode": fields.get("mode", "")}
    if "path" in fields:
        entry["path"] = fields["path"]
    return entry | ({"overwrite": True} if "overwrite" in fields else {})


def _trigger(fields: dict[str, str]) -> dict[str, Any]:
    """Return the trigger; a time is by the clock of the form's zone."""
    when, zone = fields.get("when", "now"), fields.get("zone", "UTC")
    trigger: dict[str, Any] = {"segment_id": fields["stored"]} if "stored" in fields else {}
    if when == "cron":
        return trigger | {"cron": fields.get("cron", ""), "timezone": zone}
    trigger["once"] = _moment(fields.get("at", ""), zone) if when == "at" else datetime.now(UTC).isoformat()
    return trigger | ({"repeat": fields["repeat"], "timezone": zone} if "repeat" in fields else {})


def _moment(local: str, zone: str) -> str:
    try:
        return datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).isoformat()
    except (ValueError, OSError):
        return local  # the API names what is wrong


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _key(text: str) -> dict[str, str]:
    """Return a key of `partition_by` from `timestamp:day` or `kind`, as `longshore export --partition-by` takes it."""
    field, _, by = text.strip().partition(":")
    return {"field": field, "by": by} if by else {"field": field}
