"""Writes the page on every endpoint from the service's own OpenAPI document."""

from pathlib import Path
from typing import Any

from longshore.api.document import document
from longshore.settings import Settings
from longshore.web import build

HEAD = """# Reference: HTTP

Made from the service's OpenAPI document, which a running service gives at `/openapi.json`. What a schema cannot say is
in [The HTTP API](../api.md).
"""


def write(page: Path) -> None:
    """Write the page."""
    whole = document(build(Settings()))
    parts = [HEAD]
    for path, methods in sorted(whole["paths"].items()):
        for method, operation in methods.items():
            parts.append(_operation(method, path, operation))
    parts.append("## Schemas\n")
    parts += [_schema(name, schema) for name, schema in sorted(whole["components"]["schemas"].items())]
    page.write_text("\n".join(parts), encoding="utf-8")


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    roles = next((role for each in operation["security"] for role in each.values()), [])
    lines = [f"## {method.upper()} {path}\n", operation.get("description") or operation.get("summary", ""), ""]
    if roles:
        lines += [f"Needs the level `{roles[0]}`.", ""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | what it is |", "| --- | --- | --- | --- |"]
        for given in parameters:
            what = given.get("description", "")
            lines.append(f"| `{given['name']}` | {given['in']} | {_type(given['schema'])} | {_cell(what)} |")
        lines.append("")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        lines += [f"Takes {_type(content['schema'])}.", ""]
    lines += ["| answer | what | body |", "| --- | --- | --- |"]
    for status, answer in sorted(operation["responses"].items()):
        kinds = {_type(content["schema"]) for content in answer.get("content", {}).values() if "schema" in content}
        lines.append(f"| {status} | {_cell(answer.get('description', ''))} | {', '.join(sorted(kinds)) or 'none'} |")
    return "\n".join([*lines, ""])


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n", schema.get("description", ""), ""]
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
        return f"[{name}](#{name.lower()})"
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
