"""Check that code and docs use the glossary's words: `python -m tools.check_language [FILES…]`.

Print `file:line: what is wrong` for every retired word, for every name that has one of its parts in RETIRED_IN_NAMES,
and for every docstring or comment that opens with a relative clause, and exit with 1 if there is any. RETIRED has the
words and their replacements; `docs/glossary.md` has the words to use.
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
    "SecretBox": "vault",
    "with_request_id": "middleware",
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
    "the heart": "(name the part)",
    "tells": "says, names or describes",
    "lets in": "accepts",
    "whoever": "(name the actor: client, user, operator, worker)",
}
# Parts of names, which are split at `_` and at capitals.
RETIRED_IN_NAMES = re.compile(
    "doorkeeper|doorman|courier|befell|surely|patience|patiently|patient|care|heap|sought|heir|crew|minds|plug"
    "|everybody|nobody|somebody|whoever|passcodes|people|persons|told|tells|said"
)
# Names of classes and modules that say nothing of what these are.
RETIRED_AS_NAMES = re.compile(
    "Doorman|SecretBox|Begun|Outcome|Prepared|Naming|Cutting|Care|Control|Mark|Fault|Line|Whole|News|Written|Sought"
    "|Made|Opened|Taken|Left|Loaded|Standing|Asked|Answered|Known|Seen|Told|Said|Filled|Took|Parsed|Stored"
    "|again|changing|clock|control|drive|ending|failures|handler|heap|lifecycle|marks|plug|polls|reading|revisions"
    "|watch|words"
)
ALLOWED_NAMES = frozenset({"people"})  # the value of `entity` in the segments of the API
NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
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
        if RETIRED_AS_NAMES.fullmatch(file.stem):
            yield f"{file}:1: the name of a module is retired; say what is in it"
        tree = ast.parse(text)
        yield from _names(file, tree)
        yield from _openings(file, text, tree)


def _names(file: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                pass
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                pass
            case _:
                continue
        parts = () if name in ALLOWED_NAMES else map(str.lower, NAME_PART.findall(name))
        is_class = isinstance(node, ast.ClassDef)
        if any(map(RETIRED_IN_NAMES.fullmatch, parts)) or (is_class and RETIRED_AS_NAMES.fullmatch(name)):
            yield f"{file}:{node.lineno}: the name {name!r} has a retired word; say what it is or does"


def _openings(file: Path, text: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
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
