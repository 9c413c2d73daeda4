"""Signatures of manifests: each way in which one can be wrong has a message of its own."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from longshore.errors import LongshoreError
from longshore.exports.manifest import SIGNATURE, SUFFIX
from longshore.exports.signatures import KeySet, PublicKey, SigningKey, check, from_base64url, read_keys, to_base64url
from longshore.exports.verify import verify
from tests.exports.test_verify_forged import CSV, write_result

__all__ = ["write_result"]  # a fixture

# Of RFC 8037, appendix A: https://www.rfc-editor.org/rfc/rfc8037#appendix-A
KEY = SigningKey(
    from_base64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
    from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"),
)
PUBLIC = PublicKey(KEY.kid, to_base64url(KEY.public))
MANIFEST = b'{"rows": 1}\n'
SIGNED = KEY.sign(MANIFEST)


def with_header(**members: Any) -> str:
    """Return a signature whose header has these members too; its value is that of the true one."""
    header = {"alg": "EdDSA", "kid": KEY.kid, **members}
    return f"{to_base64url(json.dumps(header).encode())}..{SIGNED.rpartition('.')[2]}"


def keys_file(folder: Path, *keys: Any) -> Path:
    path = folder / "keys.json"
    path.write_bytes(msgspec.json.encode({"keys": keys}))
    return path


def test_signature_is_what_the_rfcs_say_and_no_warning_is_raised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature = SigningKey(KEY.public, KEY.private).sign(MANIFEST)
        assert check(MANIFEST, signature, {KEY.kid: PUBLIC}) == KEY.kid
    header, payload, value = signature.split(".")
    assert payload == ""
    assert json.loads(from_base64url(header)) == {"alg": "EdDSA", "kid": KEY.kid}
    # By another library, from the bytes that RFC 7515, section 5.1 names.
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(
        from_base64url(value), f"{header}.{to_base64url(MANIFEST)}".encode("ascii")
    )


def test_kid_is_the_thumbprint_of_rfc_8037() -> None:
    assert KEY.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_manifest_of_many_megabytes_is_signed_and_checked() -> None:
    manifest = b'{"path": "a/part-00001.csv"}\n' * 200_000
    assert check(manifest, KEY.sign(manifest), {KEY.kid: PUBLIC}) == KEY.kid


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (with_header(alg="none"), r"has the alg 'none', expected 'EdDSA'"),
        (with_header(alg="none").rpartition(".")[0] + ".", r"has the alg 'none'"),
        (with_header(alg="HS256"), r"has the alg 'HS256'"),
        (with_header(alg="Ed25519"), r"has the alg 'Ed25519'"),
        (with_header(alg=None), r"has the alg None"),
        (with_header(crit=["b64"], b64=False), r"has the crit \['b64'\]"),
        (with_header(kid="other"), r"is of the key 'other', which is not among the keys: "),
        (with_header(kid=None), r"has no kid"),
        (with_header(kid=7), r"has no kid"),
        (with_header(b64=False), r"cannot be checked|does not fit"),
        (with_header(jwk={"kty": "OKP", "crv": "Ed25519", "x": PUBLIC.x}), r"cannot be checked|does not fit"),
        (SIGNED.replace("..", f".{to_base64url(MANIFEST)}."), r"has a payload"),
        (SIGNED.replace("..", "."), r"it has 2 parts"),
        ("", r"it has 1 parts"),
        ("{}", r"it has 1 parts"),
        (f"{SIGNED}.x", r"it has 4 parts"),
        (f"{to_base64url(b'[]')}..x", r"no JSON object"),
        ("é..x", r"no JSON object"),
        (SIGNED[:-2], r"does not fit|base64url"),
        (f"{SIGNED}=", r"base64url"),
        (f"{SIGNED.rpartition('.')[0]}.", r"does not fit"),
    ],
)
def test_signature_that_is_none_of_the_services_is_refused(signature: str, message: str) -> None:
    with pytest.raises(LongshoreError, match=message):
        check(MANIFEST, signature, {KEY.kid: PUBLIC})


def test_every_altered_character_of_a_signature_is_found() -> None:
    for place, character in enumerate(SIGNED):
        for other in {"A", "B", "-", "."} - {character}:
            with pytest.raises(LongshoreError):
                check(MANIFEST, SIGNED[:place] + other + SIGNED[place + 1 :], {KEY.kid: PUBLIC})


def test_every_altered_byte_of_a_manifest_is_found() -> None:
    for place in range(len(MANIFEST)):
        altered = bytearray(MANIFEST)
        altered[place] ^= 1
        with pytest.raises(LongshoreError, match="does not fit the manifest"):
            check(bytes(altered), SIGNED, {KEY.kid: PUBLIC})
    with pytest.raises(LongshoreError, match="does not fit the manifest"):
        check(MANIFEST.rstrip(), SIGNED, {KEY.kid: PUBLIC})


def test_signature_of_another_key_under_the_same_kid_is_found() -> None:
    other = SigningKey.new()
    with pytest.raises(LongshoreError, match="does not fit the manifest"):
        check(MANIFEST, SIGNED, {KEY.kid: PublicKey(KEY.kid, to_base64url(other.public))})


def test_keys_of_other_types_in_a_set_are_left_out(tmp_path: Path) -> None:
    path = keys_file(tmp_path, {"kty": "RSA", "n": "AQ", "e": "AQAB", "kid": "a"}, PUBLIC)
    assert read_keys(path) == {KEY.kid: PUBLIC}
    without_kid = keys_file(tmp_path, {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC.x})
    assert read_keys(without_kid) == {KEY.kid: PUBLIC}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "is no JWK Set"),
        ("[]", "is no JWK Set"),
        ('{"keys": {}}', "is no JWK Set"),
        ('{"keys": []}', "has no key of the type OKP"),
        ('{"keys": [{"kty": "RSA"}]}', "has no key of the type OKP"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}', "its key 1 cannot be used"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}', "its key 1 cannot be used"),
        (
            '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "é"}]}',
            'its key 1 cannot be used: "x" is not the base64url',
        ),
    ],
)
def test_file_that_is_no_set_of_keys_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LongshoreError, match=message):
        read_keys(path)


def test_verify_with_keys_needs_a_signature_that_fits(write_result: Callable[..., Path], tmp_path: Path) -> None:
    path = write_result(CSV, "csv")
    keys = keys_file(tmp_path, PUBLIC)
    beside = path.with_name(path.name + SUFFIX)
    signature = beside.with_name(beside.name + SIGNATURE)
    assert verify([path])[0].rows == 1, "without keys no signature is needed"
    with pytest.raises(LongshoreError, match=r"made\.csv\.manifest\.json\.jws is missing"):
        verify([path], keys)
    signature.write_text(KEY.sign(beside.read_bytes()) + "\n")
    assert verify([path], keys)[0].rows == 1
    signature.write_bytes(b"\xff")
    with pytest.raises(LongshoreError, match=r"made\.csv\.manifest\.json\.jws is no JWS"):
        verify([path], keys)
    signature.write_text(SIGNED)
    with pytest.raises(LongshoreError, match="does not fit the manifest"):
        verify([path], keys)


def test_set_of_keys_has_the_members_of_the_rfcs() -> None:
    assert json.loads(msgspec.json.encode(KeySet([PUBLIC]))) == {
        "keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KEY.kid, "x": PUBLIC.x}]
    }
