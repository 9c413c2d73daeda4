"""The protocol's own Python client, in an environment of its own: a process that answers one question for each line.

It imports nothing of this package. A question is {"do": NAME, …}, its answer {"found": …} or {"error": CLASS, "text":
…}.
"""

import contextlib
import datetime
import decimal
import io
import json
import sys
from typing import Any

import delta_sharing
import numpy as np
import pandas as pd


def plain(value: Any) -> Any:
    """Return a cell as JSON that keeps its type."""
    match value:
        case None | bool() | int() | str():
            return value
        case dict():
            return {"struct": {name: plain(inner) for name, inner in value.items()}}
        case list() | np.ndarray():
            return [plain(inner) for inner in value]
        case decimal.Decimal():
            return {"decimal": str(value)}
        case _ if value is pd.NaT or value is pd.NA:
            return None
        case datetime.datetime():
            return {"time": value.isoformat()}
        case datetime.date():
            return {"date": value.isoformat()}
        case np.bool_() | np.integer():
            return value.item()
        case float() | np.floating():
            return None if np.isnan(value) else {"float": repr(float(value))}
    raise TypeError(type(value))


def table(profile: str, name: str) -> str:
    return f"{profile}#{name}"


def load(question: dict[str, Any]) -> dict[str, Any]:
    """Return a table by `load_as_pandas`, column by column."""
    options = {key: question[key] for key in ("limit", "version", "timestamp", "use_delta_format") if key in question}
    with contextlib.redirect_stdout(io.StringIO()):
        frame = delta_sharing.load_as_pandas(table(question["profile"], question["table"]), **options)
    return {name: [plain(value) for value in frame[name].tolist()] for name in frame.columns} | {
        "": [str(kind) for kind in frame.dtypes]
    }


def answer(question: dict[str, Any]) -> Any:
    """Return what a question asks for."""
    match question["do"]:
        case "load":
            return load(question)
        case "list":
            client = delta_sharing.SharingClient(question["profile"])
            return [f"{each.share}.{each.schema}.{each.name}" for each in client.list_all_tables()]
        case "version":
            return delta_sharing.get_table_version(table(question["profile"], question["table"]))
        case "schema":
            metadata = delta_sharing.get_table_metadata(table(question["profile"], question["table"]))
            return json.loads(metadata.schema_string)
        case "run":  # a block of the docs, or of the console
            message = io.StringIO()
            with contextlib.redirect_stdout(message):
                exec(question["code"], {"__name__": "__main__"})
            return message.getvalue()
    raise ValueError(question["do"])


def main() -> None:
    """Answer questions until there are no more."""
    for line in sys.stdin:
        try:
            found = {"found": answer(json.loads(line))}
        except Exception as error:
            found = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
