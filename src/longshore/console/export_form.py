"""The form of a new export, as a browser sends it without a script. The API's own function creates the task."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from litestar import post
from litestar.params import RawBody
from litestar.response import Redirect

from longshore.api import segments
from longshore.api.guard import admitted
from longshore.api.service import AnyRequest
from longshore.api.tasks import create
from longshore.api.visibility_checks import visible_catalog
from longshore.console.pages import form_of, redirect
from longshore.console.repeated import SCHEDULE_KEYS, RepeatedExport, repeated_export
from longshore.console.rule_form import segment_of
from longshore.console.zones import with_offset
from longshore.errors import NotFoundError

OF_TASK = "from"
"""The choice of the form that takes the rules of the task which it repeats, as they are."""


@post("/console/{chain:int}/new", include_in_schema=False)
async def create_export(request: AnyRequest, body: RawBody) -> Redirect:
    """Create the export of a form, and show its page."""
    _, caller = admitted(request)
    pairs = parse_qsl(body.decode("utf-8", "replace"))
    fields = dict(pairs)
    first = fields.get("index", "")
    like = await repeated_export(request, _task(fields["from"])) if "from" in fields else None
    indexes = list(dict.fromkeys([first, *(value for name, value in pairs if name == "more")]))

    target, trigger = _target(fields, indexes, like), _trigger(fields, like)
    columns = _columns(request, fields, pairs, like)
    _set(target, "fields", columns, indexes, like)
    _set(target, "partition_by", _keys(fields), indexes, like)
    if like and fields.get("stored") == OF_TASK:
        trigger["segment"] = like.trigger["segment"]
    elif "stored" in fields:
        trigger["segment_id"] = fields["stored"]
    else:
        _set(trigger, "segment", _segment(request, body), indexes, like)
    value = {"chain": caller.chain, "desc": fields.get("desc", ""), "target": target, "trigger": trigger}
    id, _, _ = await create(request, value)
    return redirect(request, f"tasks/{id}")


@post("/console/{chain:int}/segments", include_in_schema=False)
async def store_segment(request: AnyRequest, body: RawBody) -> Redirect:
    """Store the rules of the form as a segment, and show the page of segments."""
    _, caller = admitted(request)
    name = form_of(body).get("segment-name", "")
    await segments.store(request, {"chain": caller.chain, "name": name, "segment": _segment(request, body)}, None)
    return redirect(request, "segments")


def _segment(request: AnyRequest, body: bytes) -> dict[str, Any] | None:
    """Return the segment of the form's rules; None without rules."""
    service, caller = admitted(request)
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    name = dict(pairs).get("index", "")
    index = visible_catalog(caller, service.catalog).get(name)
    return None if index is None else segment_of(pairs, name, index, caller.chain)


def _set(place: dict[str, Any], key: str, value: Any, indexes: list[str], like: RepeatedExport | None) -> None:
    """Set a key that is of one index: of several, the form has the first's, and the others keep those of the task."""
    others = like.others(key, indexes) if like else {}
    if value or others:
        place[key] = value if len(indexes) == 1 else ({indexes[0]: value} if value else {}) | others


def _columns(
    request: AnyRequest, fields: dict[str, str], pairs: list[tuple[str, str]], like: RepeatedExport | None
) -> list[Any]:
    """Return the columns of the form; none for all, or where the form lists those of another index."""
    service, caller = admitted(request)
    index = visible_catalog(caller, service.catalog).get(fields.get("columns-of", ""))
    if index is None or fields["columns-of"] != fields.get("index"):
        return []
    chosen = [value for name, value in pairs if name == "column"]
    if like and like.of("fields", fields["index"]):
        return like.columns(fields["index"], chosen)
    return [] if len(chosen) == len(index.fields) else chosen


def _target(fields: dict[str, str], indexes: list[str], like: RepeatedExport | None) -> dict[str, Any]:
    target: dict[str, Any] = {"action": "export", "export_format": fields.get("format", "")}
    target |= like.kept(indexes) if like else {}
    target |= {"export_index": indexes[0]} if len(indexes) == 1 else {"export_indexes": indexes}
    if "compression" in fields:
        target["compression"] = fields["compression"]
    csv = {key: value for key, value in (like.target.get("csv", {}) if like else {}).items() if key != "profile"}
    if fields.get("profile", "rfc4180") != "rfc4180":
        csv["profile"] = fields["profile"]
    if csv and target["export_format"] == "csv":
        target["csv"] = csv
    if "incremental" in fields:
        target["incremental"] = {"true": True}.get(fields["incremental"], fields["incremental"])
    if "deletes" in fields:
        target["deletes"] = True
    if "split" in fields:
        target["split"] = {fields.get("unit", "rows"): _number(fields["split"])}
    if "share_as" in fields:
        target["share_as"] = fields["share_as"]
    if "deliver" in fields:
        target["deliver"] = [_delivery(fields), *(like.target.get("deliver", [])[1:] if like else [])]
    return target


def _delivery(fields: dict[str, str]) -> dict[str, Any]:
    """Return the entry of `deliver`; the API says which of the two the destination takes."""
    entry: dict[str, Any] = {"destination": fields["deliver"]}
    if "table" in fields:
        return entry | {"table": fields["table"], "mode": fields.get("mode", "")}
    if "path" in fields:
        entry["path"] = fields["path"]
    return entry | ({"overwrite": True} if "overwrite" in fields else {})


def _trigger(fields: dict[str, str], like: RepeatedExport | None) -> dict[str, Any]:
    """Return the trigger without rules; a time is by the clock of the form's zone."""
    when, zone = fields.get("when", "now"), fields.get("zone", "UTC")
    before = like.trigger if like else {}
    further = {key: before[key] for key in SCHEDULE_KEYS if key in before}
    if when == "cron":
        return further | {"cron": fields.get("cron", ""), "timezone": zone}
    once = with_offset(fields.get("at", ""), zone) if when == "at" else datetime.now(UTC).isoformat()
    if "repeat" in fields:
        return further | {"once": once, "repeat": fields["repeat"], "timezone": zone}
    return {"once": once} | ({"timezone": zone} if "timezone" in before else {})  # that of date rules


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _task(text: str) -> int:
    number = _number(text)
    if isinstance(number, str):
        raise NotFoundError("task-not-found")
    return number


def _keys(fields: dict[str, str]) -> list[dict[str, str]]:
    return [_key(text) for text in fields["partition"].split(",")] if "partition" in fields else []


def _key(text: str) -> dict[str, str]:
    """Return a key of `partition_by` from `timestamp:day` or `kind`, as `longshore export --partition-by` takes it."""
    field, _, by = text.strip().partition(":")
    return {"field": field, "by": by} if by else {"field": field}
