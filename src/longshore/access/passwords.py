"""Passwords: argon2id, so that whoever has the database still has to guess each one slowly.

The parameters are those that RFC 9106, section 4, recommends second (64 MiB, 3 passes, 4 lanes), which is above OWASP's
least (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). A hash takes its tenth of a
second in a thread, so that the event loop answers others meanwhile, and no more than AT_ONCE run, so that a flood of
logins cannot take all memory.
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

from longshore.errors import LongshoreError

SHORTEST = 12  # characters
LONGEST = 1024
AT_ONCE = 2  # hashes of one process, 64 MiB each
NICENESS = 5  # of their threads, which still have a third of the time that others have

HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def _yield_to_others() -> None:
    """Lower the priority of this thread and of the lanes that it starts: a hash takes all cores for a while.

    On Linux a niceness is a thread's own, https://man7.org/linux/man-pages/man2/setpriority.2.html.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


THREADS = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password", initializer=_yield_to_others)

# The hash of nothing that anybody has typed: what an unknown user's password is compared with, at the same cost.
DUMMY = "$argon2id$v=19$m=65536,t=3,p=4$co3kjWnp2mfiQRiJUZXXbQ$prRKt3ycaYf9fcEFtddVZ+5xklthVoP9zD88bbXT7uE"


class PasswordError(LongshoreError):
    """A password that nobody should have; the message says why."""


def check_new(password: str) -> None:
    """Raise PasswordError for a password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordError(f"expected a password of {SHORTEST} to {LONGEST} characters")


async def hashed(password: str) -> str:
    """The hash of a password, with its parameters and salt in it."""
    return await asyncio.get_running_loop().run_in_executor(THREADS, HASHER.hash, _bytes(password))


async def matches(password: str, kept: str | None) -> bool:
    """Whether this is the password of a hash; of None it never is, which takes as long to say."""
    known = await asyncio.get_running_loop().run_in_executor(THREADS, _verify, kept or DUMMY, password)
    return known and kept is not None


def is_outdated(kept: str) -> bool:
    """Whether a hash was made with other parameters than those of today."""
    return HASHER.check_needs_rehash(kept)


def _verify(kept: str, password: str) -> bool:
    # Normalizing takes a time that grows with the square of some texts, so it is done here, and not of any length.
    if len(password) > LONGEST:
        password = ""
    try:
        return HASHER.verify(kept, _bytes(password))
    except VerificationError:
        return False


def _bytes(password: str) -> bytes:
    # One keyboard sends é as one character, another as two: https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
