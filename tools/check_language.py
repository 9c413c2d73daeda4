"""Check that code and docs use the glossary's words: `python -m tools.check_language [FILES…]`.

Print `file:line: what is wrong` for every retired word and for every docstring or comment that opens with a relative
clause, and exit with 1 if there is any. RETIRED has the words and their replacements; `docs/glossary.md` has the words
to use.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

OPENINGS = re.compile(r"(what|who|whoever|whom|whose|nobody|anybody|somebody|everybody)\b", re.IGNORECASE)

# Names that were renamed and phrases of the former language, with the words to write instead.
RETIRED = {
    "doorkeeper": "token_auth",
    "doorman": "sign_in",
    "courier": "dispatcher",
    "patience": "retry",
    "patiently": "retry",
    "surely": "retry_until_available",
    "unless_away": "ignore_outage",
    "befell": "happened to",
    "befall": "happen to",
    "befalls": "happens to",
    "FaultyError": "ValidationError",
    "ValidationFailed": "ValidationError",
    "PassingError": "TransientError",
    "StoreAwayError": "StoreUnavailableError",
    "is_passing": "is_transient",
    "may_pass": "is_retryable",
    "sign of life": "heartbeat",
    "signs of life": "heartbeats",
    "by the way": "(say when it happens)",
    "take notice": "(say what the code does)",
    "takes notice": "(say what the code does)",
    "no notice": "(say what the code does)",
    "gives back": "returns",
    "give back": "return",
    "tick off": "mark as done",
    "let go": "release",
    "lets go": "releases",
    "in vain": "(say what the answer is)",
    "made up for": "caught up",
    "whoever": "(name the actor: client, user, operator, worker)",
}
RETIRED_WORD = re.compile(
    r"(?<![\w.-])(" + "|".join(re.escape(word) for word in RETIRED) + r")(?![\w-])", re.IGNORECASE
)
SUFFIXES = {".py", ".md", ".html", ".sql", ".toml"}
SKIPPED = {"tools/check_language.py", "CHANGELOG.md"}


def main(arguments: list[str]) -> int:
    """Check the named files, by default all files of the checkout; return 1 if any has a finding, else 0."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S607
    checked = [name for name in listed if name not in SKIPPED and Path(name).suffix in SUFFIXES]
    status = 0
    for file in map(Path, arguments or checked):
        for finding in findings(file) if file.exists() else ():
            print(finding)
            status = 1
    return status


def findings(file: Path) -> Iterator[str]:
    """Yield one line for each retired word and each docstring or comment that opens with a relative clause."""
    text = file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for match in RETIRED_WORD.finditer(line):
            word = match[1].lower()
            instead = next(new for old, new in RETIRED.items() if old.lower() == word)
            yield f"{file}:{number}: {match[1]!r} is retired; write {instead!r}"
    if file.suffix == ".py":
        yield from _openings(file, text)


def _openings(file: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:  # a docstring of a module, class, function, attribute or constant
            case ast.Expr(ast.Constant(str(docstring))) if opening := OPENINGS.match(docstring.strip()):
                yield f"{file}:{node.lineno}: a docstring opens with {opening[1]!r}; say what the caller gets"
    previous = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comment = token.string.lstrip("#").strip()
            if token.start[0] != previous + 1 and (match := OPENINGS.match(comment)):
                yield f"{file}:{token.start[0]}: a comment opens with {match[1]!r}; state the invariant or the reason"
            previous = token.start[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
