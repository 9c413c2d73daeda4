"""The commands for users of a service: over HTTP, through the Python client, with a stored profile.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 timed out.
"""

from longshore.cli import commands as typer
from longshore.cli import destinations, export, login, lookups, shares, task_results, tasks


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: longshore login --address https://exports.example.com --chain 1764")(login.login)
    app.command(epilog="Example: longshore export wallet-ledger --last 24h --format csv -o ledger.csv")(export.export)
    app.command(epilog="Example: longshore indexes wallet-ledger")(lookups.indexes)
    app.command(epilog="Example: longshore segments --json")(lookups.segments)
    results = tasks.app.command
    results(epilog="Example: longshore tasks download 12345 --run 3 --manifest -o ledger.csv")(task_results.download)
    results(epilog="Example: longshore tasks files 12345 --run 3")(task_results.files)
    results(epilog="Example: longshore tasks deliveries 12345 --run 3")(task_results.deliveries)
    results(epilog="Example: longshore tasks ack 12345 --run 3")(task_results.ack)
    app.add_typer(tasks.app, name="tasks")
    app.add_typer(destinations.app, name="destinations")
    app.add_typer(shares.app, name="shares")
