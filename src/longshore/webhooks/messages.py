"""The messages of webhooks: events as JSON."""

import msgspec

from longshore.tasks.model import HIDDEN_MESSAGE


def without_data(payload: str) -> bytes:
    """Return a message without the reason and figures that come from data of the source."""
    message = msgspec.json.decode(payload)
    hidden = {"reason": HIDDEN_MESSAGE, "rows": None, "bytes": None, "evidence": None}
    message["data"] |= {key: value for key, value in hidden.items() if key in message["data"]}
    return msgspec.json.encode(message)
