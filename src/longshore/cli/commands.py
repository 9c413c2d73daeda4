"""Commands made of annotated functions, on Click.

    @app.command(epilog="Example: longshore seed --rows 1000")
    def seed(rows: Annotated[int, Option(help="Number of rows.", min=1)] = 1_000_000) -> None: ...

The type and the default of a parameter are those of the function's. Typer does the same
and would double the packages that users of the client install.
"""

import inspect
import types
import typing
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 120  # of a help page, at most
TYPES: dict[Any, "click.ParamType[Any]"] = {
    str: click.STRING, int: click.INT, float: click.FLOAT, bool: click.BOOL,
    uuid.UUID: click.UUID, Path: click.Path(path_type=Path),
}  # fmt: skip


class _Described:
    """The part of a parameter that its type and default do not say. `settings`: further ones of Click's parameter."""

    def __init__(
        self,
        *names: str,
        help: str = "",  # noqa: A002  # as Click calls it
        min: float | None = None,  # noqa: A002
        max: float | None = None,  # noqa: A002
        **settings: Any,
    ) -> None:
        self.names = names
        self.help = help
        self.range = (min, max)
        self.settings = settings


class Option(_Described):
    """An option of a command: by default `--name` of its parameter, and `--name/--no-name` for a bool."""


class Argument(_Described):
    """An argument of a command."""


class Commands(click.Group):
    """A group of commands, with the group of all commands at the top."""

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        """`settings`: those of Click's group, such as `help` and `epilog`."""
        super().__init__(name, no_args_is_help=True, context_settings={"max_content_width": WIDTH}, **settings)

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return list(self.commands)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:  # type: ignore[override]
        """Add a function as a command, named like it or `name`; `settings` are those of Click's command."""

        def add(function: F) -> F:
            self.add_command(_command(function, name or function.__name__.replace("_", "-"), settings))
            return function

        return add

    def add_group(self, name: str, **settings: Any) -> "Commands":
        """Add a group of commands, and return it; `settings` are those of Click's group."""
        group = Commands(name, **settings)
        self.add_command(group)
        return group


def _command(function: Callable[..., Any], name: str, settings: dict[str, Any]) -> click.Command:
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    lists: dict[str, Any] = {}

    def run(**values: Any) -> Any:
        for key, default in lists.items():
            values[key] = list(values[key] or ()) or default
        return function(**values)

    found: list[click.Parameter] = []
    for parameter in parameters:
        kind, described = typing.get_args(hints[parameter.name])[:2]
        one, is_list = _single(kind)
        if is_list:
            lists[parameter.name] = None if parameter.default is parameter.empty else parameter.default
        found.append(_parameter(parameter, described, one, is_list))
    settings = {"help": inspect.getdoc(function), "context_settings": {"max_content_width": WIDTH}, **settings}
    return _Command(name, callback=run, params=found, **settings)


class _Command(click.Command):
    """A command whose help lists its arguments too, which Click's does only in its newest versions."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of arguments and options."""
        found = self.get_params(ctx)
        arguments = [(each.make_metavar(ctx), each.description) for each in found if isinstance(each, _Argument)]
        options = [record for each in found if (record := each.get_help_record(ctx)) and isinstance(each, click.Option)]
        for title, records in (("Arguments", arguments), ("Options", options)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class _Argument(click.Argument):
    """An argument with a description."""

    description = ""


def _single(kind: Any) -> tuple[Any, bool]:
    """Return the type of one value, and whether the parameter is a list of them. `X | None` is X."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
    return (typing.get_args(kind)[0], True) if typing.get_origin(kind) is list else (kind, False)


def _parameter(parameter: inspect.Parameter, described: _Described, kind: Any, is_list: bool) -> click.Parameter:
    is_required = parameter.default is parameter.empty
    default = None if is_required else parameter.default
    settings = {"type": _type(described, kind), **described.settings}
    if not is_required:
        settings["default"] = default
    if isinstance(described, Argument):
        settings |= {"nargs": -1} if is_list else {}
        argument = _Argument([parameter.name], required=is_required, **settings)
        argument.description = described.help
        return argument
    flag = f"--{parameter.name.replace('_', '-')}"
    names = described.names or ((f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,))
    settings |= {"is_flag": True} if kind is bool else {}
    settings |= {"multiple": True} if is_list else {}
    shown = not is_list and default is not None and default is not False and default != ""
    return click.Option(
        [*names, parameter.name], help=described.help, required=is_required, show_default=shown, **settings
    )


class _Word(click.Choice[str]):
    """A choice of words, which may be given in any case."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word as it is written in the list."""
        words = {word.lower(): word for word in self.choices}
        return super().convert(words.get(str(value).lower(), value), param, ctx)


class _IntegerRange(click.IntRange):
    """A range whose violations call a value that is no number "not a valid integer", and not "integer range"."""

    name = "integer"


def _type(described: _Described, kind: Any) -> "click.ParamType[Any]":
    if typing.get_origin(kind) is Literal:
        return _Word(typing.get_args(kind))
    low, high = described.range
    if low is not None or high is not None:
        if kind is int:
            return _IntegerRange(None if low is None else int(low), None if high is None else int(high))
        return click.FloatRange(low, high)
    return TYPES[kind]
