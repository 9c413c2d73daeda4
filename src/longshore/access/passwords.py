"""Password hashes: argon2id, so that a stolen database still leaves each password to be guessed slowly.

The parameters are the second recommendation of RFC 9106, section 4 (64 MiB, 3 passes, 4 lanes), above OWASP's minimum
(https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). A hash takes a tenth of a second, in
a thread, so that the event loop goes on; at most MAX_HASHES run at a time, which bounds the memory of many sign-ins.
"""

import asyncio
import os
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

MIN_LENGTH, MAX_LENGTH = 12, 1024  # characters
MAX_HASHES = 2  # of one process at a time, 64 MiB each
NICENESS = 5  # of their threads, which still get a third of the processor time of other threads

HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def _yield_to_others() -> None:
    """Lower the priority of this thread and of the lanes that it starts, as a hash uses all cores.

    On Linux a niceness is a thread's own, https://man7.org/linux/man-pages/man2/setpriority.2.html.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


THREADS = ThreadPoolExecutor(MAX_HASHES, thread_name_prefix="password", initializer=_yield_to_others)

# The password of an unknown user is compared with this hash, so that the answer takes as long as for a known one.
DUMMY_HASH = "$argon2id$v=19$m=65536,t=3,p=4$co3kjWnp2mfiQRiJUZXXbQ$prRKt3ycaYf9fcEFtddVZ+5xklthVoP9zD88bbXT7uE"


def violation(password: str) -> str | None:
    """Return what was expected instead of a password that is too short or too long; None if it is valid."""
    if MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return None
    return f"expected a password of {MIN_LENGTH} to {MAX_LENGTH} characters"


async def hash_password(password: str) -> str:
    """Return the hash of a password, a PHC string with parameters and salt."""
    return await asyncio.get_running_loop().run_in_executor(THREADS, HASHER.hash, _bytes(password))


async def matches(password: str, stored: str | None) -> bool:
    """Return whether a password has this hash: False for None, after the same time."""
    matched = await asyncio.get_running_loop().run_in_executor(THREADS, _verify, stored or DUMMY_HASH, password)
    return matched and stored is not None


def is_outdated(stored: str) -> bool:
    """Return whether a hash was made with other parameters than the current ones."""
    return HASHER.check_needs_rehash(stored)


def _verify(stored: str, password: str) -> bool:
    # Normalizing takes quadratic time for some texts, so it runs in the thread and on bounded texts only.
    if len(password) > MAX_LENGTH:
        password = ""
    try:
        return HASHER.verify(stored, _bytes(password))
    except VerificationError:
        return False


def _bytes(password: str) -> bytes:
    # Some keyboards send é as one character, others as two: https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
