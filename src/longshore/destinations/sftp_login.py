"""Where and as whom to sign in to an SFTP server."""

from longshore.destinations.kind import Redacted

HOST_KEY = (
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
    r" [A-Za-z0-9+/]+={0,2}( [^\x00-\x1f\x7f]*)?"
)


class Login(Redacted, frozen=True):
    """Where and as whom to sign in."""

    host: str
    port: int
    username: str
    host_key: str
    password: str
    private_key: str
    passphrase: str

    @property
    def server(self) -> str:
        """Return the server as errors name it."""
        return f"{self.host}:{self.port}"
