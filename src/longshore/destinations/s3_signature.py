"""Signatures of requests to S3: AWS Signature Version 4, over header fields and the hash of the content.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec

from longshore.destinations.http_client import Signer, StoreAnswer, StoreRequest, encoded_query
from longshore.destinations.s3_errors import code_of
from longshore.destinations.s3_settings import S3Secret

ALGORITHM = "AWS4-HMAC-SHA256"
SMALL_BYTES = 256 << 10  # that are hashed on the event loop


class S3Signer(Signer):
    """Signs requests with all their header fields. It follows the clock of S3, which refuses other times."""

    def __init__(self, secret: S3Secret, region: str) -> None:
        self._secret = secret
        self._region = region
        self._ahead = timedelta(0)

    async def sign(self, request: StoreRequest) -> StoreRequest:
        now = datetime.now(UTC) + self._ahead
        if len(request.content) > SMALL_BYTES:
            return await asyncio.to_thread(self.signed_at, now, request)
        return self.signed_at(now, request)

    def renew(self, answer: StoreAnswer) -> bool:
        return code_of(answer) == "RequestTimeTooSkewed" and self.follow_clock(answer)

    def follow_clock(self, answer: StoreAnswer) -> bool:
        """Sign from now on by the clock of an answer; return False if it has no date that can be read."""
        try:
            self._ahead = parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)
        except (KeyError, ValueError, OverflowError, TypeError):  # the last one: for a date without its zone
            return False
        return True

    def signed_at(self, now: datetime, request: StoreRequest) -> StoreRequest:
        """Return a request with its signature of a moment."""
        time = f"{now:%Y%m%dT%H%M%SZ}"
        scope = f"{now:%Y%m%d}/{self._region}/s3/aws4_request"
        content = hashlib.sha256(request.content).hexdigest()
        headers = {**request.headers, "x-amz-date": time, "x-amz-content-sha256": content}
        if self._secret.session_token:
            headers["x-amz-security-token"] = self._secret.session_token
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        names = ";".join(sorted(signed))
        canonical = "\n".join(
            [request.method, request.path, encoded_query(request.query),
             *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, content]
        )  # fmt: skip
        text = "\n".join([ALGORITHM, time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self._secret.secret_access_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={self._secret.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return msgspec.structs.replace(request, headers=headers)
