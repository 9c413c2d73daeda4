"""The OpenAPI document serves programs: names, schemas that generators read well, and examples that are true."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest

from longshore.api import compression
from longshore.api.openapi import TAGS
from tests.api import example_requests
from tests.api.example_requests import Examples
from tests.receiver import receiving
from tests.service import Longshore

SECRETS = {"secret", "session_key", "attempt_id", "url", "bearerToken"}


@pytest.fixture(scope="module")
def example_answers(service: Longshore) -> Examples:
    """Every operation, asked with the example of its body."""
    with receiving() as receiver:
        return example_requests.answers(service, receiver)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a schema that are schemas or hold some."""
    if isinstance(schema, list):
        for part in schema:
            yield from parts(part)
    elif isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            if key not in ("example", "examples"):
                yield from parts(part)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in document["paths"].values() for one in path.values()}


def answer_content(operation: dict[str, Any]) -> dict[str, Any]:
    """The media type object of an operation's usual answer; empty without a body."""
    contents = operation["responses"][min(operation["responses"])].get("content", {})
    found: dict[str, Any] = contents.get("application/json", {})
    return found


def test_every_operation_has_a_name_of_its_own_a_tag_and_a_summary(example_answers: Examples) -> None:
    every = [one for path in example_answers.document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in every]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name)] == []
    assert {tag for one in every for tag in one["tags"]} == set(TAGS)
    assert [tag["name"] for tag in example_answers.document["tags"]] == list(TAGS)
    assert [one["operationId"] for one in every if not 5 < len(one["summary"]) < 110] == []


def test_no_key_that_may_be_left_out_has_a_default_in_a_schema(example_answers: Examples) -> None:
    """Generators of TypeScript make a key with a default one that is always there."""
    schemas = example_answers.document["components"]["schemas"]
    defaults = [name for name, schema in schemas.items() if any("default" in one for one in parts(schema))]
    assert defaults == ["LogOrder"]  # of a parameter
    trigger = schemas["Trigger"]
    assert trigger["required"] == []
    assert trigger["properties"]["timezone"]["description"].endswith('Default: `"UTC"`.')
    nulls = [one for one in parts(example_answers.document) if "default" in one and one["default"] is None]
    assert nulls == []


def test_keys_that_every_answer_has_are_required(example_answers: Examples) -> None:
    schemas = example_answers.document["components"]["schemas"]
    for name in ("Task", "Run", "Manifest", "Progress", "State"):
        assert schemas[name]["required"] == list(schemas[name]["properties"]), name


def test_every_example_of_a_body_is_accepted_by_a_running_service(example_answers: Examples) -> None:
    bodies = {name for name, (_, _, one) in example_answers.operations.items() if "requestBody" in one}
    assert bodies <= set(example_answers.answers), "tests/api/example_requests.py asks with each of them"
    for name in bodies:
        check(
            example_answers.document,
            example_answers.operations[name][2]["requestBody"]["content"]["application/json"],
            name,
        )


def test_every_answer_in_json_has_an_example_with_the_keys_of_a_real_one(example_answers: Examples) -> None:
    for name, (_, _, operation) in example_answers.operations.items():
        if media := answer_content(operation):
            assert "example" in media, f"src/longshore/api/examples has no answer of {name}"
            check(example_answers.document, media, name)
            same_keys(example_answers.answers[name], media["example"], name)


def check(document: dict[str, Any], media: dict[str, Any], name: str) -> None:
    """Compare an example with its schema."""
    schema = {**media["schema"], "components": document["components"]}
    faults = [fault.message for fault in jsonschema.Draft202012Validator(schema).iter_errors(media["example"])]
    assert faults == [], name


def same_keys(real: Any, example: Any, at: str) -> None:
    """Compare the keys of two answers, as far as both have objects there."""
    if isinstance(real, dict) and isinstance(example, dict) and not FREE.search(at):
        assert set(example) == set(real), at
        for key in real:
            same_keys(real[key], example[key], f"{at}/{key}")
    elif isinstance(real, list) and isinstance(example, list) and real and example:
        same_keys(real[0], example[0], f"{at}/0")


FREE = re.compile(r"/(target|trigger|logs|segment|sample|settings|details|secret|totals|fields)(/|$)")


def test_no_answer_with_a_secret_is_compressed(example_answers: Examples) -> None:
    """Answers to GET alone are compressed; those among them that hold signed addresses are not."""
    schemas = example_answers.document["components"]["schemas"]

    def keys(schema: Any, seen: frozenset[str]) -> set[str]:
        found = set[str]()
        for one in parts(schema):
            found |= set(one.get("properties", {}))
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                found |= keys(schemas[name], seen | {name})
        return found

    # Of what a chain has entered itself: the address of a webhook, and of a task's request.
    own = {"listWebhooks", "getTask", "listTasks"}
    signed = {
        path
        for name, (method, path, one) in example_answers.operations.items()
        if method == "GET" and name not in own and keys(answer_content(one).get("schema", {}), frozenset()) & SECRETS
    }
    assert signed - {"/destination_kinds"} == compression.SECRET_PATHS


def test_document_is_the_same_at_each_request(service: Longshore) -> None:
    first, second = (httpx2.get(f"{service.address}/openapi.json").content for _ in range(2))
    assert first == second
