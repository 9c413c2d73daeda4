"""The bodies of the resource `segments`, validated with all their violations."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.exports.catalog import Catalog
from longshore.exports.columns import FieldChoice, check_fields, choices
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from longshore.validation import ValidationError, Violation, convert

MAX_NAME_CHARACTERS = 200


class SegmentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /segments`."""

    chain: int
    name: str
    segment: Segment


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /segments/preview`: a segment, and the columns to show, by default all."""

    segment: Segment
    fields: Annotated[list[str | FieldChoice], Meta(max_length=1000)] | None = None
    timezone: str | None = None
    """The IANA name of the zone of date rules without a zone of their own; by default UTC."""
    incremental: bool | Literal["on_ack"] = False
    """As in the target that the segment is for: a warning says what its increments will miss."""
    deletes: bool = False


def read_segment(value: Any, catalog: Catalog) -> SegmentBody:
    """Return the segment of a body to store. Raises ValidationError."""
    violations: list[Violation] = []
    body = convert(SegmentBody, value, "", violations)
    if isinstance(value, dict):
        name, chain = value.get("name"), value.get("chain")
        if isinstance(name, str) and (not 1 <= len(name) <= MAX_NAME_CHARACTERS or "\x00" in name):
            violations.append(
                Violation(f"expected 1 to {MAX_NAME_CHARACTERS} characters, none of them U+0000", "/name")
            )
        segment = body.segment if body is not None else _segment_in(value)
        if segment is not None:
            violations += segments.check_index_and_rules(segment, catalog, "/segment")
            if isinstance(chain, int) and segment.chain_id != chain:
                violations.append(Violation(f"expected {chain}, the body's chain", "/segment/chain_id"))
    if violations or body is None:
        raise ValidationError(violations)
    return msgspec.structs.replace(body, segment=segments.in_utc(body.segment))


def read_preview(value: Any, catalog: Catalog) -> PreviewBody:
    """Return the segment of a body to preview. Raises ValidationError."""
    violations: list[Violation] = []
    body = convert(PreviewBody, value, "", violations)
    segment = body.segment if body is not None else _segment_in(value)
    if segment is not None:
        violations += segments.check_index_and_rules(segment, catalog, "/segment")
    if body is not None and body.segment.index in catalog:
        index = catalog[body.segment.index]
        violations += check_fields(choices(body.fields, index), index, "/fields")
    if body is not None and body.timezone is not None and not segments.is_zone(body.timezone):
        violations.append(Violation("expected an IANA time zone, such as Europe/Amsterdam", "/timezone"))
    if body is not None and body.deletes and not body.incremental:
        violations.append(Violation("needs `incremental`", "/deletes"))
    if violations or body is None:
        raise ValidationError(violations)
    return msgspec.structs.replace(body, segment=segments.in_zone(body.segment, body.timezone))


def _segment_in(value: Any) -> Segment | None:
    """Return the segment of a body that is wrong elsewhere."""
    return convert(Segment, value.get("segment"), "/segment", []) if isinstance(value, dict) else None
