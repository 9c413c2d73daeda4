"""The form of a new export, as a browser sends it with and without scripts: the body of `POST /tasks` that it means."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from longshore.access.tokens import Caller
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.api.visibility_checks import visible_catalog
from longshore.console.copied_export import NO_EXPORT, SCHEDULE_KEYS, ExportBody, repeated_export
from longshore.console.pages import as_number
from longshore.console.rule_form import segment_of
from longshore.console.zones import with_offset
from longshore.errors import NotFoundError
from longshore.exports.catalog import Catalog
from longshore.validation import ValidationError, Violation, in_json

BEGINNINGS = ("now", "at", "cron")
OF_TASK = "from"
"""The choice of the form that takes the rules of the task which it repeats, as they are."""


class ExportForm(msgspec.Struct, frozen=True):
    """The fields of a form."""

    pairs: list[tuple[str, str]]
    """Names and texts in the order of the form, the empty ones included."""
    caller: Caller
    catalog: Catalog
    """The part that the caller may see."""
    repeated: ExportBody
    """The export that the form repeats; NO_EXPORT for none."""
    now: datetime
    """The time of the database: by that of this machine, an export might have to wait."""

    @property
    def fields(self) -> dict[str, str]:
        """The texts that are not empty, by name."""
        return {name: text for name, text in self.pairs if text}

    @property
    def indexes(self) -> list[str]:
        """The chosen indexes; columns, rules and folders of the form are those of the first."""
        return list(dict.fromkeys([self.fields.get("index", ""), *self.texts("more")]))

    def texts(self, name: str) -> list[str]:
        """Return the texts of the fields of a name."""
        return [text for each, text in self.pairs if each == name]

    def segment(self) -> dict[str, Any] | None:
        """Return the segment of the rules; None without rules."""
        name = self.indexes[0]
        if name not in self.catalog:
            return None
        return segment_of(self.pairs, name, self.catalog[name], self.caller.chain, self.repeated.rules(name))

    def of_indexes(self, key: str, value: Any) -> dict[str, Any]:
        """Return a key whose value is of one index, with the repeated export's values of the others where several are.

        Empty where no index has a value.
        """
        others = self.repeated.others(key, self.indexes)
        if value is None and not others:
            return {}
        of_first = {} if value is None else {self.indexes[0]: value}
        return {key: value if len(self.indexes) == 1 else of_first | others}


async def read_form(request: AnyRequest, body: bytes) -> ExportForm:
    """Return the form that a browser has sent. Raises NotFoundError where the task that it repeats is gone."""
    service, caller = service_and_caller(request)
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    repeated = None
    if task := dict(pairs).get("from"):
        if not isinstance(number := as_number(task), int):
            raise NotFoundError("task-not-found")
        repeated = await repeated_export(request, number)
    now = (await service.pool.fetchval("select now()")).astimezone(UTC)
    return ExportForm(pairs, caller, visible_catalog(caller, service.catalog), repeated or NO_EXPORT, now)


def export_of(form: ExportForm) -> ExportBody:
    """Return the export that a form means. Raises ValidationError for what the API would not see."""
    fields = form.fields
    target = _target(form, fields)
    target |= form.of_indexes("fields", _columns(form, fields)) | form.of_indexes("partition_by", _keys(fields))
    trigger = _trigger(form, fields)
    if "stored" in fields and form.segment() is not None:
        raise ValidationError([Violation("expected a segment or rules, not both", "/trigger/segment")])
    if form.repeated.trigger.get("segment") and fields.get("stored") == OF_TASK:
        trigger["segment"] = form.repeated.trigger["segment"]
    elif "stored" in fields:
        trigger["segment_id"] = fields["stored"]
    else:
        trigger |= form.of_indexes("segment", form.segment())
    return ExportBody(fields.get("desc", ""), target, trigger)


def _columns(form: ExportForm, fields: dict[str, str]) -> list[Any] | None:
    """Return the columns of the form; None for all, or where the form lists those of another index."""
    name = fields.get("columns-of", "")
    if name not in form.catalog or name != fields.get("index"):
        return None
    chosen = form.texts("column")
    if form.repeated.of("fields", name):
        return form.repeated.columns(name, chosen)
    return None if len(chosen) == len(form.catalog[name].fields) else chosen


def _target(form: ExportForm, fields: dict[str, str]) -> dict[str, Any]:
    """Return the target without columns and folders."""
    before, indexes = form.repeated.target, form.indexes
    target: dict[str, Any] = {"action": "export"}
    target |= {"export_index": indexes[0]} if len(indexes) == 1 else {"export_indexes": indexes}
    target |= {"export_format": fields.get("format", "")} | form.repeated.kept(indexes)
    if "compression" in fields:
        target["compression"] = fields["compression"]
    csv = {key: value for key, value in before.get("csv", {}).items() if key != "profile"}
    if fields.get("profile", "rfc4180") != "rfc4180":
        csv["profile"] = fields["profile"]
    if csv and target["export_format"] == "csv":
        target["csv"] = csv
    if "incremental" in fields:
        target["incremental"] = {"true": True}.get(fields["incremental"], fields["incremental"])
    if "deletes" in fields:
        target["deletes"] = True
    if "split" in fields:
        target["split"] = {fields.get("unit", "rows"): as_number(fields["split"])}
    if "share_as" in fields:
        target["share_as"] = fields["share_as"]
    if "deliver" in fields:
        target["deliver"] = [_delivery(fields), *before.get("deliver", [])[1:]]
    return target


def _delivery(fields: dict[str, str]) -> dict[str, Any]:
    """Return the entry of `deliver`; the API says which of the two the destination takes."""
    entry: dict[str, Any] = {"destination": fields["deliver"]}
    if "table" in fields:
        return entry | {"table": fields["table"], "mode": fields.get("mode", "")}
    if "path" in fields:
        entry["path"] = fields["path"]
    return entry | ({"overwrite": True} if "overwrite" in fields else {})


def _trigger(form: ExportForm, fields: dict[str, str]) -> dict[str, Any]:
    """Return the trigger without rules. Raises ValidationError."""
    when, zone, before = fields.get("when", "now"), fields.get("zone", "UTC"), form.repeated.trigger
    if when not in BEGINNINGS:
        raise ValidationError([Violation(f"expected {' or '.join(BEGINNINGS)}, got {in_json(when)}", "/when")])
    further = {key: before[key] for key in SCHEDULE_KEYS if key in before}
    if when == "cron":
        return further | {"cron": fields.get("cron", ""), "timezone": zone}
    once = f"{form.now:%Y-%m-%dT%H:%M:%SZ}"
    if when == "at":  # a script says the zone of the browser
        once = _moment(fields.get("at", ""), fields.get("at-zone", zone))
    if "repeat" in fields:
        return further | {"once": once, "repeat": fields["repeat"], "timezone": zone}
    return {"once": once} | ({"timezone": zone} if "timezone" in before else {})  # that of date rules


def _moment(text: str, zone: str) -> str:
    """Return a time of the form with its offset. Raises ValidationError."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        expected = f"expected a time, such as 2026-05-26 14:30, got {in_json(text)}"
        raise ValidationError([Violation(expected, "/trigger/once")]) from None
    return with_offset(text, zone)


def _keys(fields: dict[str, str]) -> list[dict[str, str]] | None:
    """Return the keys of `partition_by`; None without folders."""
    keys = [_key(text) for text in fields.get("partition", "").split(",") if text.strip()]
    return keys or None


def _key(text: str) -> dict[str, str]:
    """Return a key of `partition_by` from `timestamp:day` or `kind`, as `longshore export --partition-by` takes it."""
    field, _, by = text.strip().partition(":")
    return {"field": field, "by": by} if by else {"field": field}
