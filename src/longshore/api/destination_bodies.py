"""The bodies of the resource `destinations`, validated with all their violations by the kind that they name."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from longshore.api.bodies import merge_patch
from longshore.destinations.kind import Kind
from longshore.destinations.redaction import raised_at
from longshore.destinations.stored import NewDestination
from longshore.errors import LongshoreError
from longshore.outbound import Network
from longshore.validation import ValidationError, Violation, check_nuls, convert, in_json, pointer, suggestion

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"

MAX_SETTINGS_BYTES = 32 * 1024  # as JSON; a list of destinations shows a hundred of them

Kinds = Mapping[str, Kind]

S = TypeVar("S", bound=msgspec.Struct)


class DestinationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /destinations`."""

    name: Annotated[
        str,
        Meta(
            pattern=NAME,
            examples=["warehouse"],
            extra={"expected": "up to 100 letters, digits and `._-`, the first a letter or digit"},
        ),
    ]
    """How tasks name it; it cannot be changed."""
    kind: Annotated[str, Meta(examples=["s3"])]
    """A kind of `GET /destination_kinds`."""
    settings: Annotated[dict[str, Any], Meta(examples=[{"bucket": "exports", "region": "eu-west-1"}])]
    """Where and as whom to connect."""
    secret: Annotated[
        dict[str, Any],
        Meta(examples=[{"access_key_id": "AKIA…", "secret_access_key": "…"}], extra_json_schema={"writeOnly": True}),
    ]
    """The credentials. They are stored encrypted, and never shown again."""


class DestinationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `PATCH /destinations/{id}`. Each key replaces its field as a whole; fields without a key stay."""

    settings: Annotated[dict[str, Any], Meta(examples=[{"bucket": "exports", "prefix": "loyalty/"}])] | UnsetType = (
        UNSET
    )
    secret: Annotated[dict[str, Any], Meta(extra_json_schema={"writeOnly": True})] | UnsetType = UNSET
    """Needed where `settings` change where or as whom to connect."""


class Draft(msgspec.Struct, frozen=True):
    """Settings and secret of a destination, of the types of its kind."""

    kind: Kind
    settings: Any
    secret: Any


def read_new(value: Any, kinds: Kinds, allow: tuple[Network, ...]) -> NewDestination:
    """Return the destination of a body, to be stored. Raises ValidationError."""
    body, draft = _read(value, kinds, allow)
    return NewDestination(body.name, body.kind, draft.settings, draft.secret)


def read_draft(value: Any, kinds: Kinds, allow: tuple[Network, ...]) -> Draft:
    """Return the destination of a body, to be tested. Raises ValidationError.

    It may lack what only a stored destination needs, such as the host key that the test is to find.
    """
    return _read(value, kinds, allow, may_lack=True)[1]


def read_change(value: Any, old: Draft, old_settings: Any, allow: tuple[Network, ...], *, merges: bool) -> Draft:
    """Return a destination as the body of a PATCH changes it. Raises ValidationError.

    `old_settings`: those of `old` as JSON. `merges`: whether it is a merge patch; the secret, which no client can read,
    is replaced as a whole in either case.
    """
    violations: list[Violation] = []
    if not isinstance(value, dict):
        raise ValidationError([Violation("expected an object", "")])
    names = DestinationChange.__struct_fields__
    for key in value:
        if key not in names:
            fixed = "cannot be changed" if key in ("name", "kind") else f"unknown key{suggestion(key, names)}"
            violations.append(Violation(fixed, pointer("", key)))
    settings, secret = old.settings, old.secret
    if "settings" in value:
        new = merge_patch(old_settings, value["settings"]) if merges else value["settings"]
        settings = _convert_member(old.kind.settings, new, "/settings", violations)
    if "secret" in value:
        new = merge_patch({}, value["secret"]) if merges else value["secret"]
        secret = _convert_member(old.kind.secret, new, "/secret", violations)
    elif settings is not None and (moved := _moved(old.kind, old.settings, settings)):
        names_moved = " and ".join(map(in_json, moved))
        because = f"is required, because a change of {names_moved} changes where or as whom to connect"
        violations.append(Violation(because, "/secret"))
    if not violations:
        violations += _checked(Draft(old.kind, settings, secret), allow)
    if violations:
        raise ValidationError(violations)
    return Draft(old.kind, settings, secret)


def _checked(draft: Draft, allow: tuple[Network, ...]) -> list[Violation]:
    """Return the violations that a kind finds. Raises LongshoreError for an error of it, without its message."""
    try:
        return draft.kind.check(draft.settings, draft.secret, allow)
    except Exception as error:  # of a package; its message may hold a part of the secret
        raise LongshoreError(f"the check of a kind of destination failed with {raised_at(error)}") from None


def _moved(kind: Kind, old: Any, new: Any) -> list[str]:
    """Return the names of the changed settings that say where or as whom to connect."""
    fields = msgspec.structs.fields(kind.settings)
    return [
        field.encode_name
        for field in fields
        if field.encode_name not in kind.changeable_without_secret
        and getattr(old, field.name) != getattr(new, field.name)
    ]


def _read(
    value: Any, kinds: Kinds, allow: tuple[Network, ...], *, may_lack: bool = False
) -> tuple[DestinationBody, Draft]:
    """Return a body and its destination. `may_lack`: whether members that the kind needs may be missing."""
    violations: list[Violation] = []
    body = convert(DestinationBody, value, "", violations)
    draft = _draft(value, kinds, violations)
    if draft is not None:
        violations += [each for each in _checked(draft, allow) if not may_lack or _is_given(value, each)]
    if violations or body is None or draft is None:
        raise ValidationError(violations)
    return body, draft


def _draft(value: Any, kinds: Kinds, violations: list[Violation]) -> Draft | None:
    """Return the destination of a body, typed by its kind; or None, with its violations added to `violations`."""
    name = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(name, str):
        return None
    kind = kinds.get(name)
    if kind is None:
        hint = suggestion(name, kinds) or f"; expected one of {', '.join(kinds) or 'none, as no kind is installed'}"
        violations.append(Violation(f"{in_json(name)} is not known{hint}", "/kind"))
        return None
    # The check of the body has named a member that is no object.
    before = len(violations)
    settings, secret = (
        _convert_member(type, value[key], f"/{key}", violations) if isinstance(value.get(key), dict) else None
        for key, type in (("settings", kind.settings), ("secret", kind.secret))
    )
    complete = settings is not None and secret is not None and len(violations) == before
    return Draft(kind, settings, secret) if complete else None


def _convert_member(kind: type[S], value: Any, at: str, violations: list[Violation]) -> S | None:
    before = len(violations)
    typed = convert(kind, value, at, violations)
    check_nuls(value, at, violations)
    if at == "/settings" and typed is not None and len(msgspec.json.encode(typed)) > MAX_SETTINGS_BYTES:
        violations.append(Violation(f"expected {MAX_SETTINGS_BYTES:,} bytes of JSON at most", at))
    return typed if len(violations) == before else None


def _is_given(value: Any, violation: Violation) -> bool:
    """Return whether the body has the member that a violation is about."""
    member = value
    for step in (violation.pointer or "").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(member, dict) or key not in member:
            return False
        member = member[key]
    return True
