"""The header `Idempotency-Key`: a request that is sent again with its key is executed once.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
from typing import Annotated, Any

import msgspec
from litestar.params import HeaderParameter

from longshore.api.guard import actor, service_and_caller
from longshore.api.service import AnyRequest
from longshore.tasks.idempotency import Claim

CANONICAL = msgspec.json.Encoder(decimal_format="number", order="sorted")

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+\Z",
        description="The same key and request within 24 hours are executed once; a repetition answers the outcome.",
    ),
]

REPLAYED = {"Idempotent-Replayed": "true"}


def claim_of(request: AnyRequest, key: str | None, value: Any = None, *others: Any) -> Claim | None:
    """Return the claim of a request with this key and body; None without a key.

    `others`: the body as an earlier version of the same request may have it, such as with digests under older secrets.
    The stored key begins with the credential, such as `user 7`: two credentials of a chain may use the same key.
    """
    if key is None:
        return None
    _, caller = service_and_caller(request)
    request_line = f"{request.scope['method']} {request.scope['path']}\n".encode()
    digests = [hashlib.sha256(request_line + CANONICAL.encode(each)).digest() for each in (value, *others)]
    return Claim(caller.chain, f"{actor(request).name} {key}", digests[0], digests)
