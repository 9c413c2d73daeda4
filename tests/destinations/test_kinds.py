"""The kinds of destinations of this package."""

from typing import Any

import msgspec
import pytest

from longshore.destinations.az import AzSecret
from longshore.destinations.gs import GsSecret
from longshore.destinations.postgresql.connect import PostgresqlSecret
from longshore.destinations.s3 import S3Secret
from longshore.destinations.sftp import SftpSecret
from longshore.destinations.sftp_login import Login

SECRETS = {
    S3Secret: {"access_key_id": "hidden1", "secret_access_key": "hidden2", "session_token": "hidden3"},
    GsSecret: {"service_account": "hidden"},
    AzSecret: {"account_key": "hidden", "sas_token": "hidden"},
    SftpSecret: {"password": "hidden", "private_key": "hidden", "passphrase": "hidden"},
    PostgresqlSecret: {"password": "hidden"},
}


@pytest.mark.parametrize("kind", SECRETS)
def test_text_of_a_secret_shows_no_value(kind: Any) -> None:
    secret = msgspec.convert(SECRETS[kind], kind)
    assert "hidden" not in f"{secret} {secret!r}"
    assert msgspec.to_builtins(secret) == SECRETS[kind]  # it is stored all the same


def test_text_of_a_login_shows_no_value() -> None:
    assert "hidden" not in repr(Login("host", 22, "user", "", "hidden", "hidden", "hidden"))
