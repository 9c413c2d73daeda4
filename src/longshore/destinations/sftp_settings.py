"""Where and as whom to sign in to an SFTP server: what a client sends."""

from typing import Annotated

import msgspec
from msgspec import Meta

from longshore.destinations.kind import PRINTED, SecretStruct
from longshore.outbound import MAX_PORT

HOST_KEY = (
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
    r" [A-Za-z0-9+/]+={0,2}( [^\x00-\x1f\x7f]*)?"
)
NO_CONTROL = r"^[^\x00-\x1f\x7f]*\Z"


class SftpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server is, and as whom to sign in."""

    host: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._:-]{1,253}\Z", description="Name or address of the server.",
            extra={"expected": "a name or address without a port"},
        ),
    ]  # fmt: skip
    username: Annotated[
        str, Meta(min_length=1, max_length=200, pattern=NO_CONTROL, description="As whom to sign in.", extra=PRINTED)
    ]
    port: Annotated[int, Meta(ge=1, le=MAX_PORT, description="Port of the server.")] = 22
    host_key: Annotated[
        str,
        Meta(max_length=5000, pattern=rf"^(|{HOST_KEY})\Z", description="The server's public key without host names, "
        "such as ssh-ed25519 AAAA…. A test may leave it out, and then shows it.",
        extra={"expected": "an OpenSSH public key without host names, such as ssh-ed25519 AAAA…"}),
    ] = ""  # fmt: skip
    path: Annotated[
        str,
        Meta(max_length=500, pattern=NO_CONTROL, description="Folder that the files are put below; where it does not "
        "begin with a slash, within the folder in which a session begins. It is made where it is missing.",
        extra=PRINTED),
    ] = ""  # fmt: skip

    @property
    def server(self) -> str:
        """The server as errors name it."""
        return f"{self.host}:{self.port}"


class SftpSecret(SecretStruct, frozen=True, forbid_unknown_fields=True):
    """A password, or a private key."""

    password: Annotated[str, Meta(max_length=1000)] = ""
    private_key: Annotated[
        str,
        Meta(
            max_length=20_000, description="In the format of OpenSSH or PEM.", extra_json_schema={"format": "textarea"}
        ),
    ] = ""
    passphrase: Annotated[str, Meta(max_length=1000, description="Of the private key, where it has one.")] = ""
