"""Private keys that a client sends: the work of reading one is bounded before it is read.

An encrypted key says how often its passphrase is hashed, and the client that made the key chose that number.
"""

import binascii
import re
from collections.abc import Iterator

from longshore.destinations.kind import DestinationError

MAX_ITERATIONS = 1_000_000  # of PBKDF2 and its predecessors; OpenSSL writes 2,048, others up to 600,000
MAX_OTHER_INTEGER = 64  # beside the count of iterations: the bytes of the derived key
MAX_ROUNDS = 1_000  # of bcrypt, each of which is some milliseconds; ssh-keygen writes 24
MAX_KEY_BYTES = 2_900  # an RSA key of 4096 bits has 2,500; one of 8192 takes six seconds to read

PEM = re.compile(
    r"^-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----[ \t\r]*\n((?:[\w-]+:.*\n)*)([A-Za-z0-9+/=\s]*)^-----END \1-----", re.M
)
OPENSSH_MAGIC = b"openssh-key-v1\0"  # https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key
SEQUENCE, OBJECT_IDENTIFIER, INTEGER, OCTET_STRING, NULL = 0x30, 0x06, 0x02, 0x04, 0x05
MAX_DEPTH = 8  # of the sequences in the parameters of an encryption; PBES2 with PBKDF2 has five


class _UnreadableError(Exception):
    """Bytes are not in the expected form."""


def require_cheap_key(text: str) -> str:
    """Return the first private key of a text as PEM that is read in bounded time.

    Raises DestinationError for one that may take longer, and for one in an unknown form.
    """
    found = PEM.search(text)
    try:
        if found is None:
            raise _UnreadableError
        name, headers, content = found[1], found[2], binascii.a2b_base64(found[3])
        if len(content) > MAX_KEY_BYTES:
            raise DestinationError('"private_key" is too large: an RSA key has 4096 bits at most')
        if name == "OPENSSH PRIVATE KEY":
            _check_rounds(content)
        elif name == "ENCRYPTED PRIVATE KEY":
            headers = ""  # they could encrypt it once more
            _check_iterations(content)
    except (_UnreadableError, binascii.Error, IndexError):
        raise DestinationError('"private_key" is no private key of OpenSSH or PEM') from None
    # Written anew, so that whatever reads it finds the bytes that were checked.
    return f"-----BEGIN {name}-----\n{headers}{binascii.b2a_base64(content).decode()}-----END {name}-----\n"


def _check_rounds(content: bytes) -> None:
    if not content.startswith(OPENSSH_MAGIC):
        raise _UnreadableError
    cipher, rest = _string(content[len(OPENSSH_MAGIC) :])
    function, rest = _string(rest)
    options, _ = _string(rest)
    if cipher == b"none":
        return
    _, rounds = _string(options)
    if function != b"bcrypt" or len(rounds) != 4:
        raise _UnreadableError
    if int.from_bytes(rounds) > MAX_ROUNDS:
        raise DestinationError(f'"private_key" has more than {MAX_ROUNDS:,} rounds: ssh-keygen -p -a 100 writes fewer')


def _string(content: bytes) -> tuple[bytes, bytes]:
    """Return the first string of RFC 4251, section 5, and what follows it."""
    end = 4 + int.from_bytes(content[:4])
    if len(content) < max(end, 4):
        raise _UnreadableError
    return content[4:end], content[end:]


def _check_iterations(content: bytes) -> None:
    """Check the integers of an EncryptedPrivateKeyInfo (RFC 5958), which are all of its algorithm's parameters.

    Where they stand depends on the algorithm (RFC 8018), so each of them counts.
    """
    count, *others = sorted(_integers(content, MAX_DEPTH), reverse=True) or [0]
    if count < 1:
        raise _UnreadableError
    if count > MAX_ITERATIONS or any(not 0 <= other <= MAX_OTHER_INTEGER for other in others):
        raise DestinationError(
            f'"private_key" has more than {MAX_ITERATIONS:,} iterations: openssl pkcs8 -topk8 -iter 600000 writes fewer'
        )


def _integers(content: bytes, depth: int) -> Iterator[int]:
    """Yield the integers in values of DER (ITU-T X.690), of the few types that are in these parameters."""
    while content:
        tag, length, start = content[0], content[1], 2
        if length > 0x80:
            start += length & 0x7F
            length = int.from_bytes(content[2:start])
        end = start + length
        if (length == 0x80 and start == 2) or end > len(content) or not depth:
            raise _UnreadableError
        if tag == SEQUENCE:
            yield from _integers(content[start:end], depth - 1)
        elif tag == INTEGER:
            yield int.from_bytes(content[start:end], signed=True)
        elif tag not in (OBJECT_IDENTIFIER, OCTET_STRING, NULL):
            raise _UnreadableError
        content = content[end:]
