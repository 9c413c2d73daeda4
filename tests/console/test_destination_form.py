"""The form of a destination and the body that its fields stand for, by the schemas of the kinds, without a server."""

from typing import Any

import msgspec
import pytest

from longshore.console.destination_form import (
    distinctive_settings,
    fields_of,
    form_violations,
    label_of,
    setting_texts,
    texts_of,
    values_of,
)
from longshore.destinations import load as load_kinds
from longshore.settings import Settings
from longshore.validation import Violation


def schemas(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of a kind's settings and secret, as `GET /destination_kinds` has them."""
    found = load_kinds(Settings())[kind]
    both = [msgspec.json.schema_components([each])[1] for each in (found.settings, found.secret)]
    settings, secret = (next(iter(each.values())) for each in both)
    return settings, secret


def test_fields_of_each_type_of_a_schema_have_their_input() -> None:
    settings, secret = schemas("s3")
    fields = {each.label: each for each in fields_of("settings", settings, texts_of("settings", settings, {}))}
    assert (fields["Bucket"].control, fields["Bucket"].required) == ("text", True)
    assert [value for value, _ in fields["Encryption"].choices] == ["", "AES256", "aws:kms", "aws:kms:dsse"]
    assert fields["Path style"].choices == [("", "not set"), ("true", "yes"), ("false", "no")]
    assert {each.control for each in fields_of("secret", secret, {}, hidden=True)} == {"password"}
    [key_file] = fields_of("secret", schemas("gs")[1], {}, hidden=True)
    assert key_file.control == "textarea"
    port = fields_of("settings", schemas("sftp")[0], texts_of("settings", schemas("sftp")[0], {}))[2]
    assert (port.name, port.control, port.value) == ("/settings/port", "number", "22")


@pytest.mark.parametrize(
    ("kind", "form", "expected"),
    [
        ("s3", {"/settings/path_style": "false", "/settings/prefix": ""}, {"path_style": False}),
        ("s3", {"/settings/encryption": "aws:kms", "/settings/unknown": "x"}, {"encryption": "aws:kms"}),
        ("sftp", {"/settings/port": "2222"}, {"port": 2222}),
        ("sftp", {"/settings/port": "22"}, {}),
        ("sftp", {"/settings/port": "2_2"}, {"port": "2_2"}),
        ("postgresql", {"/settings/sslrootcert": "a\r\nb"}, {"sslrootcert": "a\nb"}),
    ],
)
def test_fields_of_a_form_become_values_of_their_types(kind: str, form: dict[str, str], expected: Any) -> None:
    assert values_of("settings", schemas(kind)[0], form) == expected


def test_stored_settings_come_back_from_their_form_as_they_were() -> None:
    schema = schemas("s3")[0]
    settings = {"bucket": "b", "prefix": "p", "encryption": None, "path_style": False}
    back = values_of("settings", schema, texts_of("settings", schema, settings))
    assert back == {"bucket": "b", "prefix": "p", "path_style": False}


def test_settings_are_shown_with_labels_and_without_those_that_are_empty() -> None:
    schema = schemas("s3")[0]
    settings = {"kms_key_id": "k" * 100, "bucket": "b", "prefix": "", "path_style": True, "encryption": None}
    assert setting_texts(schema, settings) == [("Bucket", "b"), ("KMS key ID", "k" * 100), ("Path style", "yes")]
    assert distinctive_settings(schema, settings) == [("Bucket", "b"), ("Path style", "yes")]
    assert distinctive_settings(None, {"shelf": "top"}) == [("Shelf", "top")]
    assert label_of("sslmode") == "TLS mode"


def test_violations_are_sorted_to_the_fields_that_they_are_about() -> None:
    fields = fields_of("settings", schemas("s3")[0], {})
    places = ["/settings/bucket", "/settings/bucket/0", "/settings/bucketx", "/secret/x", "/name", "/kind", None]
    placed = form_violations([Violation("wrong", place) for place in places], fields)
    assert {name: len(found) for name, found in placed.beside.items()} == {
        "/settings/bucket": 2, "/settings": 1, "/secret": 1, "/name": 1,
    }  # fmt: skip
    assert placed.unplaced == ["/kind wrong", "wrong"]
