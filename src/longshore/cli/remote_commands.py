"""The commands for users of a service: over HTTP, through the Python client, with a stored login."""

from longshore.cli import (
    commands,
    completion,
    destinations,
    export,
    indexes,
    login,
    request,
    segments,
    shares,
    tasks,
    verify,
)


def add_to(app: commands.Commands) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: longshore login --address https://exports.example.com --chain 1764")(login.login)
    app.command(epilog="Example: longshore logout --profile production")(login.logout)
    app.command(epilog="Example: longshore whoami")(login.whoami)
    app.add_group(login.profiles_app, name="profiles")
    app.command(epilog="Example: longshore export wallet-ledger --where 'amount > 10' --last 24h -o ledger.csv")(
        export.export
    )
    app.add_group(tasks.app, name="tasks")
    app.command(epilog="Example: longshore indexes wallet-ledger")(indexes.indexes)
    app.add_group(segments.app, name="segments")
    app.add_group(destinations.app, name="destinations")
    app.add_group(shares.app, name="shares")
    app.command(epilog="Example: longshore verify --keys longshore-keys.json Wallet_Export-12345.csv")(verify.verify)
    app.command(epilog="Example: longshore request POST /tasks --input task.json")(request.request)
    app.command(epilog="Example: longshore completion bash >> ~/.bashrc")(completion.completion)
