"""The values that shells complete. A service that does not answer at once completes nothing, and prints nothing."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from longshore.cli.output import printable

if TYPE_CHECKING:
    from longshore import Longshore

TIMEOUT_SECONDS = 2.0
MAX_VALUES = 100

Found = Iterable[tuple[str, str]]
"""Values with their descriptions."""
Completion: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem[Any]]]


def _completion(find: Callable[["Longshore", click.Context], Found]) -> Completion:
    """Return the completion of the values that a function finds with a client."""

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


def _fields(client: "Longshore", ctx: click.Context) -> Found:
    """Return the fields of the indexes that the command line names before."""
    # While an option lacks its value, Click has not read the arguments.
    named = ctx.params.get("index") or [word for word in ctx.args if not word.startswith("-")]
    return [(field.name, field.description) for name in named for field in client.indexes.get(name).fields]


fields = _completion(_fields)
indexes = _completion(lambda client, _: ((index.name, index.description) for index in client.indexes.list()))
tasks = _completion(
    lambda client, _: (
        (str(task.id), f"{task.state.code} {task.data.desc}") for task in client.tasks.list(limit=MAX_VALUES)
    )
)
segments = _completion(lambda client, _: ((each.id, each.name) for each in client.segments.list(limit=MAX_VALUES)))
destinations = _completion(
    lambda client, _: ((each.name, each.kind) for each in client.destinations.list(limit=MAX_VALUES))
)
kinds = _completion(lambda client, _: ((each.kind, each.takes) for each in client.destinations.kinds()))


def profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """Complete the names of stored logins."""
    try:
        from longshore.client.profiles import read_profiles

        return _items([(name, login.address) for name, login in read_profiles().logins.items()], incomplete)
    except Exception:
        return []
