"""SQL fragments of the catalog: expressions and conditions that are put into parentheses of a larger statement."""

import re

# Longest first; see https://www.postgresql.org/docs/current/sql-syntax-lexical.html
TOKEN = re.compile(
    r"""
    (?P<quoted>
        [eE]'(?:[^'\\]|\\.|'')*'
        | '(?:[^']|'')*'
        | "(?:[^"]|"")*"
        | \$(?P<tag>(?:[^\W\d]\w*)?)\$ .*? \$(?P=tag)\$
    )
    | (?P<comment>-- | /\*)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<end>;)
    | (?P<unterminated>['"])
    | [^\W\d]\w*\$*  # a name, so that a dollar sign in it begins no quote
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
PAIRS = {")": "(", "]": "["}


def violation_of(sql: str) -> str | None:
    """Return why a fragment could reach out of the parentheses that it is put into, or None where it cannot.

    A condition such as `true) or (true` would end the statement's own condition on the chain.
    """
    opened: list[str] = []
    for token in TOKEN.finditer(sql):
        match token.lastgroup:
            case "comment":
                return "has a comment; write it outside the string, as a comment of TOML"
            case "end":
                return "has a semicolon; it must be one expression"
            case "unterminated":
                return "has a quote that does not end"
            case "open":
                opened.append(token[0])
            case "close":
                if not opened or opened.pop() != PAIRS[token[0]]:
                    return f"closes a parenthesis that it does not open: {sql[: token.end()]!r}"
    return "opens a parenthesis that it does not close" if opened else None
