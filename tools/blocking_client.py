"""Make the client that blocks of the one that is awaited: `python -m tools.blocking_client`.

`longshore.client.blocking` is `longshore.client.asynchronous` without `async` and `await`. Both are committed, so that
signatures, tracebacks and editors show plain functions; a test makes the files anew and compares them.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "src" / "longshore" / "client"
SOURCE, TARGET = CLIENT / "asynchronous", CLIENT / "blocking"
WRITTEN_BY_HAND = {"concurrency.py"}  # the two sides of waiting
HEAD = "# Made of ../asynchronous/{name} by tools/blocking_client.py: change that file, then run `make format`.\n"

REPLACED = [
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\.a(close|read|iter_raw)\b", r".\1"),
    (r"\bclient\.asynchronous\b", "client.blocking"),
    (r"^(class Longshore:\n    \"\"\"A client of a service), whose methods are awaited\.", r"\1, whose methods block."),
]


def made(name: str) -> str:
    """Return the text of a file of the client that blocks."""
    text = (SOURCE / name).read_text(encoding="utf-8")
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    for command in (["check", "--fix", "--exit-zero", "--select", "I"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(TARGET / name), "-"]
        text = subprocess.run(ruff, input=text, text=True, capture_output=True, check=True).stdout  # noqa: S603
    return HEAD.format(name=name) + text


def names() -> list[str]:
    """Return the names of the files that are made."""
    return sorted(path.name for path in SOURCE.glob("*.py") if path.name not in WRITTEN_BY_HAND)


def main() -> None:
    """Write all files, and delete those that are not made any more."""
    for name in names():
        (TARGET / name).write_text(made(name), encoding="utf-8")
    for path in TARGET.glob("*.py"):
        if path.name not in {*names(), *WRITTEN_BY_HAND}:
            path.unlink()


if __name__ == "__main__":
    main()
