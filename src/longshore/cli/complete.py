"""The values that shells complete. A service that does not answer at once completes nothing, and prints nothing."""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from longshore.cli.output import printable

if TYPE_CHECKING:
    from longshore import Longshore

TIMEOUT_SECONDS = 2.0
MAX_VALUES = 100

Found = Iterable[tuple[str, str]]
"""Values with their descriptions."""


def _completes(find: Callable[["Longshore", click.Context], Found]) -> Callable[..., list[CompletionItem[Any]]]:
    """Return the completion of the values that a function finds with a client."""

    @functools.wraps(find)
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        try:
            from longshore import Longshore
            from longshore.client.profiles import read_profile

            login = read_profile(ctx.params.get("profile"))
            with Longshore(
                login.address, login.token, chain=login.chain, timeout=TIMEOUT_SECONDS, retry_for=0
            ) as client:
                return _items(find(client, ctx), incomplete)
        except Exception:  # whatever it is, it must not be printed into the command line
            return []

    return complete


def _items(found: Found, incomplete: str) -> list[CompletionItem[Any]]:
    # Shells read lines: a line end in another's text would be a value of its own.
    return [
        CompletionItem(value, help=printable(meaning) or None)
        for value, meaning in found
        if value.startswith(incomplete) and value.isprintable()
    ]


@_completes
def indexes(client: "Longshore", _: click.Context) -> Found:
    """Complete the names of export indexes."""
    return [(index.name, index.description) for index in client.indexes.list()]


@_completes
def fields(client: "Longshore", ctx: click.Context) -> Found:
    """Complete the fields of the indexes that the command line names before."""
    # While an option lacks its value, Click has not read the arguments.
    named = ctx.params.get("index") or [word for word in ctx.args if not word.startswith("-")]
    return [(field.name, field.description) for name in named for field in client.indexes.get(name).fields]


@_completes
def tasks(client: "Longshore", _: click.Context) -> Found:
    """Complete the numbers of the newest tasks."""
    return [(str(task.id), f"{task.state.code} {task.data.desc}") for task in client.tasks.list(limit=MAX_VALUES)]


@_completes
def segments(client: "Longshore", _: click.Context) -> Found:
    """Complete the ids of stored segments."""
    return [(segment.id, segment.name) for segment in client.segments.list(limit=MAX_VALUES)]


@_completes
def destinations(client: "Longshore", _: click.Context) -> Found:
    """Complete the names of the chain's destinations."""
    return [(one.name, one.kind) for one in client.destinations.list(limit=MAX_VALUES)]


@_completes
def kinds(client: "Longshore", _: click.Context) -> Found:
    """Complete the kinds of destinations."""
    return [(one.kind, one.takes) for one in client.destinations.kinds()]


def profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """Complete the names of stored logins."""
    try:
        from longshore.client.profiles import read_profiles

        return _items([(name, login.address) for name, login in read_profiles().logins.items()], incomplete)
    except Exception:
        return []
