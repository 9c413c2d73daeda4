"""Profiles: the logins that `longshore login` stores in the platform's configuration folder."""

import os
from pathlib import Path

import msgspec
import platformdirs

from longshore.client.errors import ProfileError


class Profile(msgspec.Struct, frozen=True):
    """A login: the address of a service, a token, and a chain."""

    address: str
    token: str
    chain: int

    def __repr__(self) -> str:
        return f"<Profile {self.address} chain {self.chain}>"


def profiles_file() -> Path:
    """Return the file of the profiles; on Linux `longshore/profiles.json` in `$XDG_CONFIG_HOME` or `~/.config`."""
    return platformdirs.user_config_path("longshore") / "profiles.json"


def read_profile(name: str) -> Profile:
    """Return the profile of a name. Raises ProfileError."""
    profiles = _read()
    if name not in profiles:
        known = f"; there are {', '.join(sorted(profiles))}" if profiles else ""
        raise ProfileError(f"there is no profile {name!r}{known}; `longshore login` makes one")
    return profiles[name]


def write_profile(name: str, profile: Profile) -> Path:
    """Store a profile in a file that only its owner can read, and return the file. Raises ProfileError."""
    file = profiles_file()
    text = msgspec.json.format(msgspec.json.encode({**_read(), name: profile}))
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_for_owner(file, text + b"\n")
    return file


def write_for_owner(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in place of one that is there."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to:
        to.write(content)
    aside.replace(file)


def _read() -> dict[str, Profile]:
    file = profiles_file()
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Profile])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise ProfileError(f"the profiles in {file} cannot be read: {error}") from None
