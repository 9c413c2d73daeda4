"""The form of a destination, made from the JSON schemas of its kind, and the body that a browser's fields stand for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from longshore.validation import Violation, pointer

Control = Literal["text", "number", "select", "textarea", "password"]
Schema = Mapping[str, Any]

KIND_NAMES = {
    "s3": "Amazon S3, and what speaks its protocol",
    "gs": "Google Cloud Storage",
    "az": "Azure Blob Storage",
    "sftp": "SFTP",
    "postgresql": "PostgreSQL",
}
ACRONYMS = {"id": "ID", "kms": "KMS", "sas": "SAS"}
LABELS = {"sslmode": "TLS mode", "sslrootcert": "TLS certificates to trust"}

INTEGER = re.compile(r"-?[0-9]{1,18}")
SHORT_CHARACTERS = 80


class Field(msgspec.Struct, frozen=True):
    """An input of the form."""

    name: str
    """The JSON pointer of its value in the body, which violations name."""
    id: str
    label: str
    hint: str
    control: Control
    required: bool
    choices: list[tuple[str, str]]
    """Value and label of each option of a select."""
    value: str
    """The text that it begins with; of a secret none."""


class FormViolations(msgspec.Struct, frozen=True):
    """The violations of a body, by the input that they belong to."""

    beside: dict[str, list[str]]
    """Those of an input, or of all `/settings` or `/secret`, by its name."""
    unplaced: list[str]
    """Those of no input, with their pointers."""


def fields_of(member: str, schema: Schema, texts: Mapping[str, str], *, hidden: bool = False) -> list[Field]:
    """Return the inputs for the properties of a schema.

    `member`: of the body, `settings` or `secret`. `texts`: what the inputs begin with, by name. `hidden`:
    whether they take a secret.
    """
    return [
        Field(
            name=pointer(f"/{member}", name),
            id=f"{member}-{number}",
            label=label_of(name),
            hint=about.get("description", ""),
            control=_control(about, hidden=hidden),
            required=name in schema.get("required", ()),
            choices=_choices(about, required=name in schema.get("required", ())),
            value="" if hidden else texts.get(pointer(f"/{member}", name), ""),
        )
        for number, (name, about) in enumerate(schema["properties"].items(), start=1)
    ]


def texts_of(member: str, schema: Schema, values: Mapping[str, Any]) -> dict[str, str]:
    """Return what the inputs of a schema hold for these values, by name; for a missing one that is its default."""
    return {
        pointer(f"/{member}", name): _text(values.get(name, about.get("default")))
        for name, about in schema["properties"].items()
    }


def values_of(member: str, schema: Schema, form: Mapping[str, str]) -> dict[str, Any]:
    """Return a member of the body from the fields that a browser has sent, without those that are empty or defaults."""
    values = {}
    for name, about in schema["properties"].items():
        text = form.get(pointer(f"/{member}", name), "").replace("\r\n", "\n")
        if text and text != _text(about.get("default")):
            values[name] = _value(about, text)
    return values


def setting_texts(schema: Schema | None, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and text of the settings that have a value. `schema`: None where the kind is not installed."""
    properties = schema["properties"] if schema else {}
    names = sorted(settings, key=lambda name: list(properties).index(name) if name in properties else len(properties))
    return [(label_of(name), text) for name in names if (text := _shown(settings[name]))]


def distinctive_settings(schema: Schema | None, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and text of the settings that have no default value and at most SHORT_CHARACTERS."""
    properties = schema["properties"] if schema else {}
    own = {name: value for name, value in settings.items() if value != properties.get(name, {}).get("default")}
    return [(label, text) for label, text in setting_texts(schema, own) if len(text) <= SHORT_CHARACTERS]


def form_violations(violations: Sequence[Violation], fields: Sequence[Field]) -> FormViolations:
    """Return the violations of a body by the input that each belongs to, and those of no input."""
    names = ["/name", *(field.name for field in fields), "/settings", "/secret"]
    placed = FormViolations({}, [])
    for violation in violations:
        at = violation.pointer or ""
        name = next((name for name in names if f"{at}/".startswith(f"{name}/")), None)
        if name is None:
            placed.unplaced.append(f"{at} {violation.detail}".strip())
        else:
            placed.beside.setdefault(name, []).append(violation.detail)
    return placed


def label_of(name: str) -> str:
    """Return the label of a property: `KMS key ID` for `kms_key_id`."""
    words = LABELS.get(name) or " ".join(ACRONYMS.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def _alternatives(about: Schema) -> Iterator[Schema]:
    yield from about.get("anyOf", [about])


def _types(about: Schema) -> set[str]:
    return {each.get("type", "") for each in _alternatives(about)}


def _options(about: Schema) -> list[Any]:
    """Return the values of a property that has but a few; an empty list for any other one."""
    options = [option for each in _alternatives(about) for option in each.get("enum", ())]
    return [True, False] if "boolean" in _types(about) else options


def _control(about: Schema, *, hidden: bool) -> Control:
    types = _types(about)
    if about.get("format") == "textarea" or types & {"object", "array"}:
        return "textarea"
    if hidden:
        return "password"
    if _options(about):
        return "select"
    return "number" if "integer" in types else "text"


def _choices(about: Schema, *, required: bool) -> list[tuple[str, str]]:
    choices = [(_text(option), _shown(option)) for option in _options(about)]
    return choices if required or about.get("default") is not None else [("", "not set"), *choices]


def _value(about: Schema, text: str) -> Any:
    """Return the value of a text that a browser has sent; the text itself where it is none, which the API names."""
    for option in _options(about):
        if text == _text(option):
            return option
    types = _types(about)
    if "integer" in types and INTEGER.fullmatch(text):
        return int(text)
    if "string" not in types and types & {"number", "object", "array"}:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else _text(value)
