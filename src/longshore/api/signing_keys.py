"""The resource `/.well-known/longshore-keys.json`: the public keys that manifests are signed with."""

import msgspec
from litestar import Response, get

from longshore.api.conditional import UNMODIFIED, representation_tag, tagged_response
from longshore.api.guard import service_of
from longshore.api.openapi_responses import answers, problems
from longshore.api.service import AnyRequest
from longshore.exports import signing_keys
from longshore.exports.signatures import KeySet

# A key is in the set before it signs, so a reader who meets an unknown one asks again.
MAX_AGE_SECONDS = 300


@get("/.well-known/longshore-keys.json", responses=answers(None, UNMODIFIED) | problems(412))
async def get_signing_keys(request: AnyRequest) -> Response[KeySet]:
    """Return the JWK Set (RFC 7517) of all keys that manifests have been signed with, newest first.

    It needs no credential. A manifest's signature names its key by `kid`.
    """
    found = await signing_keys.public_keys(service_of(request).pool)
    tag = representation_tag(msgspec.json.encode(found))
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={MAX_AGE_SECONDS}"}
    return tagged_response(request, found, headers)
