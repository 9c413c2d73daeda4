"""Signatures of manifests: a detached JWS (RFC 7515, appendix F) by Ed25519 over the manifest's exact bytes.

The signature lies beside its manifest as `NAME.manifest.json.jws`. RFC 9864 gives the algorithm the name `Ed25519` in
place of `EdDSA`; the older name is the one that verifiers know.
"""

import base64
import binascii
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from joserfc import jws
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from msgspec import Meta

from longshore.errors import LongshoreError

ALGORITHM: Final = "EdDSA"
CURVE: Final = "Ed25519"
MAX_SHOWN_CHARACTERS = 100


class PublicKey(msgspec.Struct, frozen=True):
    """A public key as a JWK (RFC 8037)."""

    kid: Annotated[
        str,
        Meta(
            description="The thumbprint of the key (RFC 7638), by which signatures name it.",
            examples=["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"],
        ),
    ]
    x: Annotated[
        str,
        Meta(
            description="The 32 bytes of the key, base64url.", examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"]
        ),
    ]
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = CURVE
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = ALGORITHM


class KeySet(msgspec.Struct, frozen=True):
    """A JWK Set (RFC 7517): the keys that manifests have been signed with, newest first."""

    keys: list[PublicKey]


class _Registry(JWSRegistry):
    """The one algorithm of manifests, whatever their size."""

    max_payload_length = sys.maxsize

    def get_alg(self, name: str) -> Any:  # a JWSAlgModel, which joserfc does not export to type checkers
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not supported")
        return self.algorithms[name]  # joserfc's own method warns of the older name


REGISTRY = _Registry()


class SigningKey:
    """A private key that signs manifests."""

    def __init__(self, public: bytes, private: bytes) -> None:
        """`public`, `private`: 32 bytes each."""
        self._key = OKPKey.import_key(
            {"kty": "OKP", "crv": CURVE, "x": to_base64url(public), "d": to_base64url(private)}
        )
        self.kid = self._key.thumbprint()

    @classmethod
    def new(cls) -> "SigningKey":
        """Make a key."""
        key: dict[str, Any] = OKPKey.generate_key(CURVE, auto_kid=False).as_dict(private=True)
        return cls(from_base64url(key["x"]), from_base64url(key["d"]))

    @property
    def public(self) -> bytes:
        """The public key."""
        return from_base64url(str(self._key.as_dict(private=False)["x"]))

    @property
    def private(self) -> bytes:
        """The private key."""
        return from_base64url(str(self._key.as_dict(private=True)["d"]))

    def sign(self, manifest: bytes) -> str:
        """Return the signature of a manifest: a compact JWS with an empty payload."""
        header = {"alg": ALGORITHM, "kid": self.kid}
        protected, _, signature = jws.serialize_compact(header, manifest, self._key, registry=REGISTRY).split(".")
        return f"{protected}..{signature}"


def read_keys(path: Path) -> dict[str, PublicKey]:
    """Return the keys of a file with a JWK Set that can have signed manifests, by kid. Raises LongshoreError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_AnyKeys)
    except OSError as error:
        raise LongshoreError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise LongshoreError(f"{path} is no JWK Set: {error}") from None
    keys: dict[str, PublicKey] = {}
    for number, key in enumerate(found.keys):
        if (key.kty, key.crv) != ("OKP", CURVE):
            continue  # other keys may be in a set
        try:
            usable = OKPKey.import_key({"kty": key.kty, "crv": key.crv, "x": key.x})
        except (JoseError, ValueError) as error:
            # base64 that cannot be decoded is an error without a message
            why = str(error) or '"x" is not the base64url of 32 bytes'
            raise LongshoreError(f"{path} is no JWK Set: its key {number + 1} cannot be used: {why}") from None
        kid = key.kid or usable.thumbprint()
        keys[kid] = PublicKey(kid, key.x)
    if not keys:
        raise LongshoreError(f"{path} has no key of the type OKP with the curve {CURVE}")
    return keys


class _AnyKey(msgspec.Struct, frozen=True):
    kty: str
    kid: str = ""
    crv: str = ""
    x: str = ""


class _AnyKeys(msgspec.Struct, frozen=True):
    keys: list[_AnyKey]


def check(manifest: bytes, signature: str, keys: dict[str, PublicKey]) -> str:
    """Return the kid of the key that has signed a manifest. Raises LongshoreError, which says what is wrong."""
    parts = signature.strip().split(".")
    if len(parts) != 3:
        raise LongshoreError(f"is no JWS: it has {len(parts)} parts with points between, expected 3")
    header, payload, value = parts
    if payload:
        raise LongshoreError("has a payload, expected none: the signature of a manifest is detached from it")
    kid = _kid_of(header)
    key = keys.get(kid)
    if key is None:
        known = ", ".join(keys)
        raise LongshoreError(f"is of the key {_shown(kid)}, which is not among the keys: {known}")
    if not _is_canonical(value):
        raise LongshoreError("is no JWS: its signature is not in base64url")
    public = OKPKey.import_key({"kty": key.kty, "crv": key.crv, "x": key.x})
    try:
        jws.deserialize_compact(f"{header}..{value}", public, registry=REGISTRY, payload=manifest)
    except BadSignatureError:
        raise LongshoreError(f"does not fit the manifest: one of them was changed, or {kid} is another key") from None
    except (JoseError, ValueError) as error:
        raise LongshoreError(f"cannot be checked: {error}") from None
    return kid


def _kid_of(part: str) -> str:
    """Return the kid of a protected header whose other members are as expected. Raises LongshoreError."""
    try:
        header = msgspec.json.decode(from_base64url(part), type=dict[str, Any])
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise LongshoreError("is no JWS: its header is no JSON object in base64url") from None
    if (algorithm := header.get("alg")) != ALGORITHM:
        raise LongshoreError(f"has the alg {_shown(algorithm)}, expected {ALGORITHM!r}")
    if "crit" in header:
        raise LongshoreError(f"has the crit {_shown(header['crit'])}, which demands what is not understood here")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise LongshoreError("has no kid, which names the key that signed")
    return kid


def _shown(value: Any) -> str:
    return repr(value)[:MAX_SHOWN_CHARACTERS]


def _is_canonical(text: str) -> bool:
    """Return whether a text is base64url as encoders write it: some bits of its last character decode to nothing."""
    try:
        return to_base64url(from_base64url(text)) == text
    except (binascii.Error, ValueError):
        return False


def to_base64url(value: bytes) -> str:
    """Return bytes in base64url, without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes of a text in base64url. Raises ValueError."""
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
