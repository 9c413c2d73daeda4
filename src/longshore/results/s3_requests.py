"""Requests to a bucket of S3 through botocore: multipart uploads whose parts come from several workers.

obstore keeps an upload to the process that began it, so these requests go through botocore.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
import structlog

from longshore.database.retry import STORE
from longshore.results.aws import NO_CREDENTIALS, S3Credentials, error_of, is_retryable
from longshore.results.media_types import media_type
from longshore.results.store import StoreError, StoreUnavailableError

log = structlog.get_logger()

TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS = 30, 5  # of one request
RETRY_SECONDS = 60.0  # in which a request is retried while the store is out of reach

ENCRYPTION = {"AWS_SERVER_SIDE_ENCRYPTION": "ServerSideEncryption", "AWS_SSE_KMS_KEY_ID": "SSEKMSKeyId"}


def headers_of(key: str) -> dict[str, str]:
    """Return the header fields of an object's download, as the service itself sends them."""
    name = key.rpartition("/")[2]
    return {"Content-Type": media_type(name), "Content-Disposition": f'attachment; filename="{name}"'}


class UnfinishedUpload(msgspec.Struct, frozen=True):
    """An upload that was neither completed nor aborted. `key` is below the prefix."""

    key: str
    upload: str
    began: datetime


class S3Requests:
    """Requests to one prefix of a bucket. Blocking, and for any thread."""

    def __init__(self, name: str, prefix: str, credentials: S3Credentials) -> None:
        self.name = name
        self.prefix = f"{prefix}/" if prefix else ""
        self._credentials = credentials
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        """Return botocore's client. It is made on first use, as it takes 30 MB and a fifth of a second."""
        with self._lock:
            if self._client is None:
                from botocore.config import Config

                config = Config(
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    read_timeout=TIMEOUT_SECONDS,
                    # `call` retries. Botocore's own retries end after seconds, and sooner the more requests there are.
                    retries={"mode": "standard", "total_max_attempts": 1},
                    s3={"addressing_style": "path" if self._credentials.endpoint else "auto"},
                    # Other implementations of S3 often do not support the newer checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._client = self._credentials.client(config)
            return self._client

    def call(
        self,
        name: str,
        key: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
        cancelled: threading.Event | None = None,
        **values: Any,
    ) -> Any:
        """Run an operation on a key below the prefix, and retry it while the store is out of reach.

        `values`: the operation's own parameters. `cancelled`: once it is set, no retry follows.
        Raises StoreError.
        """
        deadline = time.monotonic() + retry_seconds
        cancelled = cancelled or threading.Event()
        for pause in STORE:
            try:
                with botocore_errors():
                    return getattr(self.client, name)(Bucket=self.name, Key=self.prefix + key, **values)
            except StoreUnavailableError as error:
                if _is_final(error) or time.monotonic() + pause > deadline or cancelled.wait(pause):
                    raise
        raise AssertionError("pauses never end")

    @property
    def encryption(self) -> dict[str, Any]:
        """Return the encryption that the environment sets for new objects."""
        return {option: os.environ[name] for name, option in ENCRYPTION.items() if os.environ.get(name)}

    def begin(self, key: str) -> str:
        """Begin an upload and return its id."""
        headers: dict[str, Any] = {name.replace("-", ""): value for name, value in headers_of(key).items()}
        begun = self.call("create_multipart_upload", key, **headers, **self.encryption)
        return str(begun["UploadId"])

    def unfinished(self, below: str = "") -> list[UnfinishedUpload]:
        """Return the unfinished uploads below a prefix; none if the credentials do not allow listing them."""
        uploads = []
        try:
            with botocore_errors():
                pages = self.client.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self.name, Prefix=self.prefix + below
                )
                for page in pages:
                    for upload in page.get("Uploads", ()):
                        key = upload["Key"].removeprefix(self.prefix)
                        uploads.append(UnfinishedUpload(key, upload["UploadId"], upload["Initiated"]))
        except StoreError as error:
            log.warning("unfinished uploads not listed", error=str(error))
        return uploads

    def require_listing(self) -> None:
        """Raise StoreError if unfinished uploads cannot be listed."""
        with botocore_errors():
            self.client.list_multipart_uploads(Bucket=self.name, Prefix=self.prefix, MaxUploads=1)

    def abort(self, uploads: Iterable[UnfinishedUpload]) -> None:
        """Abort uploads. Errors are ignored: the next cleanup aborts what is left."""
        for each in uploads:
            with contextlib.suppress(StoreError):
                self.call("abort_multipart_upload", each.key, retry_seconds=0, UploadId=each.upload)


def _is_final(error: StoreUnavailableError) -> bool:
    """Return whether the store answered and would give the same answer again."""
    status, code = _status_and_code(error.__cause__)
    return status is not None and not is_retryable(status, code)


def _status_and_code(error: BaseException | None) -> tuple[int | None, str]:
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return None, ""
    return error.response["ResponseMetadata"]["HTTPStatusCode"], str(error.response["Error"].get("Code", ""))


@contextlib.contextmanager
def botocore_errors() -> Iterator[None]:
    """Raise StoreError for errors of botocore. Only the log names the bucket."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        log.warning("results store failed", error=str(error))
        if isinstance(error, NoCredentialsError):
            raise StoreError(NO_CREDENTIALS) from error
        raise error_of(*_status_and_code(error)) from error
