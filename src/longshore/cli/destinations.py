"""`longshore destinations …`: the chain's own places for results. No secret is an argument, which others could see."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from longshore.cli import complete, options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.exits import FAILED, NOT_FOUND, CommandError
from longshore.cli.output import printable, show, show_all, show_table
from longshore.client.errors import NOT_DECODED

if TYPE_CHECKING:
    from longshore import Longshore
    from longshore.client.destinations import Destination, DestinationKind, DestinationTest

destinations_app = app.add_group(
    "destinations",
    help="Destinations: the chain's own places for results.",
    epilog="Example: longshore destinations list",
)

Name = Annotated[str, Argument(help="Name of the destination.", shell_complete=complete.destinations)]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="A setting; @FILE as its value reads a file, nothing removes it."),
]
FILE_HELP = (
    "File with the secret: a JSON object of its fields, or its one field alone. - reads standard input, or prompts."
)


@destinations_app.command("list", epilog="Example: longshore destinations list --json")
def list_destinations(profile: options.Profile = None, json: options.Json = False) -> None:
    """List the destinations, without their secrets."""
    with client_of(profile) as client:
        found = client.destinations.list(limit=None)
    heads = ("name", "kind", "settings", "modified")
    show_all(found, heads, lambda one: (one.name, one.kind, _shown(one.settings), one.modified.isoformat()), json=json)


@destinations_app.command("kinds", epilog="Example: longshore destinations kinds s3")
def kinds(
    kind: Annotated[
        str | None, Argument(help="Show the settings and the secret of this kind.", shell_complete=complete.kinds)
    ] = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the kinds of destinations, or the settings and the secret of one."""
    with client_of(profile) as client:
        if kind is None:
            show_all(
                client.destinations.kinds(),
                ("kind", "takes", "settings"),
                lambda one: (one.kind, one.takes, ", ".join(one.settings["properties"])),
                json=json,
            )
            return
        one = _kind(client, kind)
    if json:
        show(one)
        return
    fields: list[tuple[str, ...]] = []
    for part, schema in (("setting", one.settings), ("secret", one.secret)):
        required = schema.get("required", [])
        for name, field in schema["properties"].items():
            fields.append((part, name, "required" if name in required else "", field.get("description", "")))
    show_table(("part", "name", "", "description"), fields)


@destinations_app.command(
    "create",
    epilog="Example: longshore destinations create warehouse --kind s3 --set bucket=acme-exports --set region=eu-west-1"
    " --secret-file key.json",
)
def create(  # noqa: PLR0913 (the options of the command)
    name: Annotated[str, Argument(help="Name of the new destination, which tasks use.")],
    kind: Annotated[str, Option(help="One of `longshore destinations kinds`.", shell_complete=complete.kinds)],
    settings: Set = None,
    secret_file: Annotated[str, Option(help=FILE_HELP)] = options.STDIN,
    untested: Annotated[bool, Option("--untested", help="Store it without a test.")] = False,
    profile: options.Profile = None,
) -> None:
    """Test a destination, and store it if the test succeeds."""
    with client_of(profile) as client:
        known = _kind(client, kind)
        wanted = {key: value for key, value in _settings(known, settings or []).items() if value is not None}
        secret = _secret(known, secret_file)
        if not untested:
            _show_test(client.destinations.test_new(kind, wanted, secret))
        made = client.destinations.create(name, kind, wanted, secret)
    click.echo(f"{made.name} is stored; tasks deliver to it by that name")


@destinations_app.command("test", epilog="Example: longshore destinations test warehouse")
def test(name: Name, profile: options.Profile = None) -> None:
    """Test a destination with what is stored; exit with 1 if a step fails."""
    with client_of(profile) as client:
        _show_test(client.destinations.test(_find(client, name).id))


@destinations_app.command("change", epilog="Example: longshore destinations change warehouse --set prefix=loyalty")
def change(
    name: Name,
    settings: Set = None,
    secret_file: Annotated[str | None, Option(help=FILE_HELP)] = None,
    profile: options.Profile = None,
) -> None:
    """Change settings or the secret. A change of where or as whom to connect needs the secret again."""
    if not settings and secret_file is None:
        raise click.BadParameter("expected --set or --secret-file")
    with client_of(profile) as client:
        old = _find(client, name)
        known = _kind(client, old.kind)
        wanted = _settings(known, settings) if settings else None
        secret = None if secret_file is None else _secret(known, secret_file)
        client.destinations.change(old.id, settings=wanted, secret=secret, merge=True)
    click.echo(f"{name} is changed; `longshore destinations test {name}` tries it")


@destinations_app.command("delete", epilog="Example: longshore destinations delete warehouse")
def delete(name: Name, profile: options.Profile = None) -> None:
    """Delete a destination. What was delivered stays where it is."""
    with client_of(profile) as client:
        client.destinations.delete(_find(client, name).id)
    click.echo(f"{name} is deleted")


def _find(client: "Longshore", name: str) -> "Destination":
    found = next((one for one in client.destinations.list(limit=None) if one.name == name), None)
    if found is None:
        raise CommandError(f"the chain has no destination {printable(name)!r}", NOT_FOUND)
    return found


def _kind(client: "Longshore", name: str) -> "DestinationKind":
    kinds = {one.kind: one for one in client.destinations.kinds()}
    if name not in kinds:
        raise click.BadParameter(f"expected one of {', '.join(kinds)}", param_hint="--kind")
    return kinds[name]


def _settings(kind: "DestinationKind", settings: list[str]) -> dict[str, Any]:
    """Return the settings of the command line, each of the type that the kind's schema has; None for one to remove."""
    import msgspec

    changed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"expected KEY=VALUE, got {setting!r}", param_hint="--set")
        if not value:
            changed[key] = None
            continue
        text = _read(value[1:]).rstrip("\r\n") if value.startswith("@") else value
        schema = kind.settings["properties"].get(key, {})
        types = {part["type"] for part in (schema, *schema.get("anyOf", [])) if "type" in part}
        try:
            changed[key] = text if not types or "string" in types else msgspec.json.decode(text)
        except NOT_DECODED:
            expected = " or ".join(sorted(types - {"null"}))
            raise click.BadParameter(f"{key}: expected {expected}", param_hint="--set") from None
    return changed


def _secret(kind: "DestinationKind", file: str) -> dict[str, Any]:
    """Return the secret in a file; where it is `-`, of standard input, or prompted for on a terminal."""
    import msgspec

    fields = kind.secret["properties"]
    if file == options.STDIN and sys.stdin.isatty():
        answers = {name: click.prompt(name, default="", hide_input=True, show_default=False) for name in fields}
        return {name: answer for name, answer in answers.items() if answer}
    text = sys.stdin.read().removeprefix("\ufeff") if file == options.STDIN else _read(file)
    try:
        value = msgspec.json.decode(text)
    except NOT_DECODED:
        value = text.rstrip("\r\n")
    if isinstance(value, dict) and (value.keys() & fields.keys() or len(fields) > 1):
        return value
    if len(fields) > 1:
        expected = f"expected a JSON object of {', '.join(fields)}"
        raise click.BadParameter(expected, param_hint="--secret-file")
    return dict.fromkeys(fields, value if isinstance(value, dict) else text.rstrip("\r\n"))


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise click.BadParameter(f"{file} cannot be read: {reason}") from None


def _show_test(result: "DestinationTest") -> None:
    """Print the steps of a test; exit with 1 if one has failed."""
    rows = [("good" if step.ok else "failed", step.step, step.detail) for step in result.steps]
    show_table(("", "step", "detail"), rows)
    if not result.ok:
        raise click.exceptions.Exit(FAILED)


def _shown(settings: dict[str, Any]) -> str:
    texts = {name: str(value) for name, value in settings.items() if value not in ("", None)}
    return ", ".join(f"{name}={text if len(text) <= 60 else f'{text[:60]}…'}" for name, text in texts.items())
