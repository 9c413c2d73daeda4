"""Writes a page for each endpoint from the service's own OpenAPI document, with its examples."""

import json
import re
from pathlib import Path
from typing import Any

from longshore.api.openapi import document
from longshore.settings import Settings
from longshore.web import build

HEAD = """# Reference: HTTP

Every endpoint, with an example of its request and its answer. The pages are made from the service's OpenAPI document,
which a running service gives at `/openapi.json`. [The HTTP API](../../api.md) has what holds for all endpoints,
[Schemas](schemas.md) every object.
"""
ADDRESS = "http://127.0.0.1:8080"
CREDENTIAL = '-H "Authorization: Bearer $TOKEN"'
IDS = {
    "id": "12345", "run": "latest", "link": "0197a3c4-5e7f-7b1a-8c2d-000000000001", "backfill": "1",
    "delivery": "0197a3c4-5e7f-7b1a-8c2d-000000000001", "name": "wallet-ledger",
    "share": "1764", "schema": "exports", "table": "ledger",
}  # fmt: skip
"""The value of each path parameter in the examples."""


def write(folder: Path) -> None:
    """Write the pages into a folder, and remove those of endpoints that are gone."""
    whole = document(build(Settings()))
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index": _index(whole), "schemas": _schemas(whole)}
    for path, method, operation in _operations(whole):
        pages[file_name(operation["operationId"])] = _page(method, path, operation)
    for page in folder.glob("*.md"):
        if page.stem not in pages:
            page.unlink()
    for name, text in pages.items():
        page = folder / f"{name}.md"
        if not page.is_file() or page.read_text(encoding="utf-8") != text:  # Sphinx reads anew what has changed
            page.write_text(text, encoding="utf-8")


def file_name(operation_id: str) -> str:
    """Return the name of an operation's page, such as `create-task`."""
    return re.sub(r"(?=[A-Z])", "-", operation_id).lower()


def _operations(whole: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method.upper(), operation)
        for path, methods in sorted(whole["paths"].items())
        for method, operation in methods.items()
    ]


def _index(whole: dict[str, Any]) -> str:
    parts = [HEAD]
    for tag in whole["tags"]:
        shown = [each for each in _operations(whole) if tag["name"] in each[2]["tags"]]
        title = tag["name"].replace("_", " ").capitalize()
        parts += [f"## {title}\n", f"{tag['description']}\n", "| call | does |", "| --- | --- |"]
        for path, method, operation in shown:
            page = file_name(operation["operationId"])
            parts.append(f"| [`{method} {path}`]({page}.md) | {_cell(operation['summary'])} |")
        parts.append("")
        names = [file_name(operation["operationId"]) for _, _, operation in shown]
        parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""]))
    parts.append("```{toctree}\n:hidden:\n\nschemas\n```\n")
    return "\n".join(parts)


def _page(method: str, path: str, operation: dict[str, Any]) -> str:
    roles = next((role for each in operation["security"] for role in each.values()), [])
    lines = [f"# {method} {path}\n", operation["description"], ""]
    if roles:
        lines += [f"Needs the level `{roles[0]}`.", ""]
    lines += ["```sh", *_curl(method, path, operation), "```", ""]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in body:
        lines += ["`request.json`:", "", *_json(body["example"])]
    success = min(operation["responses"])
    for answer in operation["responses"][success].get("content", {}).values():
        if "example" in answer:
            lines += [f"The answer, {success}:", "", *_example(answer["example"])]
    lines += _parameters(operation)
    contents = operation.get("requestBody", {}).get("content", {})
    if contents:
        kinds = " or ".join(f"`{name}`" for name in contents)
        lines += ["## Body", "", f"{_type(next(iter(contents.values()))['schema'])}, as {kinds}.", ""]
    lines += ["## Answers", "", "| status | what | body |", "| --- | --- | --- |"]
    for status, answer in operation["responses"].items():
        kinds = {_type(content["schema"]) for content in answer.get("content", {}).values() if "schema" in content}
        lines.append(f"| {status} | {_cell(answer.get('description', ''))} | {', '.join(sorted(kinds)) or 'none'} |")
    return "\n".join([*lines, ""])


def _curl(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    """Return the command that sends the request of a page."""
    address = re.sub(r"\{(\w+)\}", lambda match: IDS[match[1]], path)
    options = ["curl -s"] if method == "GET" else [f"curl -s -X {method}"]
    if operation["security"]:
        options.append(CREDENTIAL)
    if "requestBody" in operation:
        options += ['-H "Content-Type: application/json"', "-d @request.json"]
    return [f"{' '.join(options)} \\", f"  {ADDRESS}{address}"]


def _example(value: Any) -> list[str]:
    return ["```text", value, "```", ""] if isinstance(value, str) else _json(value)


def _json(value: Any) -> list[str]:
    return ["```json", json.dumps(value, indent=2, ensure_ascii=False), "```", ""]


def _parameters(operation: dict[str, Any]) -> list[str]:
    given = operation.get("parameters", [])
    if not given:
        return []
    lines = ["## Parameters", "", "| parameter | in | type | what it is |", "| --- | --- | --- | --- |"]
    for one in given:
        default = one["schema"].get("default")
        what = one.get("description", "") + (f" Default: `{json.dumps(default)}`." if default is not None else "")
        lines.append(f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_cell(what)} |")
    return [*lines, ""]


def _schemas(whole: dict[str, Any]) -> str:
    head = "# Schemas\n\nEvery object that requests and answers are made of, by its name in the OpenAPI document.\n"
    return "\n".join([head, *(_schema(name, one) for name, one in sorted(whole["components"]["schemas"].items()))])


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"({name.lower()})=", f"## {name}\n", schema.get("description", ""), ""]
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        lines += ["| key | type | what it is |", "| --- | --- | --- |"]
        for key, value in properties.items():
            always = "" if key in required else ", optional"
            lines.append(f"| `{key}` | {_type(value)}{always} | {_cell(value.get('description', ''))} |")
    elif "enum" in schema:
        lines.append("One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".")
    return "\n".join([*lines, ""])


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](schemas.md#{name.lower()})"
    if options := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    names = kind if isinstance(kind, list) else [kind]
    return " or ".join(names)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
