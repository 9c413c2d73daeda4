"""Servers of S3 on loopback: rclone's, which checks signatures, and moto's, which knows rights and conditions."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import msgspec
from moto.server import ThreadedMotoServer

from longshore.destinations.s3 import s3
from longshore.settings import Settings
from tests.destinations.servers import RCLONE, SampleDestination, process
from tests.service import free_port

KEY, SECRET = "AKIDOFTESTS", "secret/of+tests=="
BUCKET = "exports"


class RcloneServer(msgspec.Struct, frozen=True):
    """rclone over a folder, whose folders are its buckets."""

    address: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which rclone knows the server as the remote `t`."""
        return {
            **os.environ,
            "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_T_TYPE": "s3", "RCLONE_CONFIG_T_PROVIDER": "Other",
            "RCLONE_CONFIG_T_ENDPOINT": self.address, "RCLONE_CONFIG_T_ACCESS_KEY_ID": KEY,
            "RCLONE_CONFIG_T_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip

    def place(self) -> SampleDestination:
        return s3_place(self.address, KEY, SECRET)


@contextlib.contextmanager
def rclone(folder: Path, *options: str, port: int = 0) -> Iterator[RcloneServer]:
    """A server. `port`: that of a server which ended, to start it again; 0 for a new one."""
    (folder / BUCKET).mkdir(exist_ok=True)
    port = port or free_port()
    command: list[str | Path] = [
        RCLONE, "serve", "s3", f"--addr=127.0.0.1:{port}", f"--auth-key={KEY},{SECRET}", "--config=/dev/null",
        "--log-level=ERROR", *options, folder,
    ]  # fmt: skip
    with process(command, port):
        yield RcloneServer(f"http://127.0.0.1:{port}", folder)


class MotoServer:
    """moto, with an empty bucket."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.netloc = (host, port)
        self.address = f"http://{host}:{port}"
        self.bucket = self.client("s3")
        self.bucket.create_bucket(Bucket=BUCKET)

    def client(self, service: str, key: str = "admin", secret: str = "admin") -> Any:
        """A client of botocore."""
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    def place(self, key: str = KEY, secret: str = SECRET, address: str = "") -> SampleDestination:
        return s3_place(address or self.address, key, secret)

    def found_keys(self) -> list[str]:
        return [found["Key"] for found in self.bucket.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def uploads(self) -> list[str]:
        """The keys of the uploads that were begun and not completed."""
        return [found["Key"] for found in self.bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def content(self, key: str) -> bytes:
        found: bytes = self.bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    @contextlib.contextmanager
    def user(self, name: str, *actions: str) -> Iterator[SampleDestination]:
        """A destination with the key of a user who may do these actions alone; rights are checked meanwhile."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        allowed = {
            "Effect": "Allow",
            "Action": list(actions),
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self._check_rights("0")
        try:
            yield self.place(key["AccessKeyId"], key["SecretAccessKey"])
        finally:
            self._check_rights("1e99")

    def _check_rights(self, unchecked_requests: str) -> None:
        httpx2.post(f"{self.address}/moto-api/reset-auth", content=unchecked_requests).raise_for_status()

    def stop(self) -> None:
        self._server.stop()


def s3_place(address: str, key: str, secret: str) -> SampleDestination:
    settings = {"bucket": BUCKET, "endpoint": address, "prefix": "in"}
    return SampleDestination(s3(Settings()), settings, {"access_key_id": key, "secret_access_key": secret})
