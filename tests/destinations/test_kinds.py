"""The kinds of destinations of this package."""

import json
from typing import Any

import msgspec
import pytest

from longshore.destinations.az import AzSecret
from longshore.destinations.gs import GsSecret, gs
from longshore.destinations.kind import load
from longshore.destinations.postgresql.connect import PostgresqlSecret
from longshore.destinations.redaction import holds_secret
from longshore.destinations.s3_settings import S3Secret
from longshore.destinations.sftp import sftp
from longshore.destinations.sftp_settings import SftpSecret
from longshore.settings import Settings
from longshore.validation import Violation, convert

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


@pytest.mark.parametrize("as_text", [False, True])
def test_error_may_name_what_a_key_file_has_beside_the_key(as_text: bool) -> None:
    file = {
        "type": "service_account", "client_email": "shop@acme.example", "private_key": "-----BEGIN\nhidden\n",
        "private_key_id": "k1d2",
        "universe_domain": "googleapis.com", "project_id": "acme",
    }  # fmt: skip
    text = json.dumps(file)
    hidden = gs(Settings()).hidden(GsSecret(text if as_text else file))
    assert not holds_secret(OSError("cannot connect to storage.googleapis.com of acme"), hidden)
    for shown in (file["private_key"], file["private_key_id"], text):
        assert holds_secret(OSError(f"cannot use {shown}"), hidden)


def test_every_text_of_a_secret_is_hidden_unless_its_kind_says_otherwise() -> None:
    secret = SftpSecret(password="one of it", passphrase="other")
    hidden = sftp(Settings()).hidden(secret)
    assert all(holds_secret(OSError(f"no {text} here"), hidden) for text in ("one of it", "other"))
    unreadable = GsSecret('{"private_key": "hidden"}')
    assert holds_secret(OSError(unreadable.service_account), gs(Settings()).hidden(unreadable))


BUILT_IN = {name: kind for name, kind in load(Settings()).items() if name in ("s3", "gs", "az", "sftp", "postgresql")}


@pytest.mark.parametrize("name", BUILT_IN)
def test_users_read_plain_words_in_place_of_patterns(name: str) -> None:
    kind = BUILT_IN[name]
    for struct in (kind.settings, kind.secret):
        for field, about in msgspec.json.schema(struct)["$defs"][struct.__name__]["properties"].items():
            assert "`" not in about.get("description", ""), f"{field}: the console shows it as it is"
            if "pattern" not in about:
                continue
            violations: list[Violation] = []
            convert(struct, {field: "\x00"}, "", violations)
            [message] = [each.detail for each in violations if each.pointer == f"/{field}"]
            assert message.startswith("expected ") and "pattern" not in message and "\\" not in message, message
