"""Bodies: JSON that endpoints read themselves, so that they can name every fault at once."""

from decimal import Decimal
from typing import Any

import msgspec

from longshore.api.access import AnyRequest
from longshore.api.problems import ProblemError
from longshore.faults import Fault, FaultyError

BODY = msgspec.json.Decoder(float_hook=Decimal)


def read_json(request: AnyRequest, body: bytes) -> Any:
    """A request's body as a JSON value, its decimals exact. Raises ProblemError and FaultyError."""
    if request.content_type[0] != "application/json":
        raise ProblemError("not-json", f"Expected the content type application/json, got {request.content_type[0]!r}.")
    try:
        return BODY.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise FaultyError([Fault(f"expected JSON: {error}", "")]) from None
