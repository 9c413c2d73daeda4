"""Profiles: the logins that `longshore login` stores in the platform's configuration folder."""

import os
from pathlib import Path

import msgspec
import platformdirs

from longshore.client.disk import FOR_OWNER, write_whole
from longshore.client.errors import NOT_DECODED, ProfileError

DEFAULT = "default"
"""The name of the first login."""


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


class Profiles(msgspec.Struct, frozen=True):
    """The stored logins by name, and the name of the one that is used where none is named."""

    current: str = DEFAULT
    logins: dict[str, Profile] = {}


def read_profiles() -> Profiles:
    """Return all profiles. Raises ProfileError."""
    file = profiles_file()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Profiles)
    except FileNotFoundError:
        return Profiles()
    except (OSError, *NOT_DECODED) as error:
        raise ProfileError(f"the profiles in {file} cannot be read: {error}") from None


def read_profile(name: str | None = None) -> Profile:
    """Return the profile of a name; without one, the current one. Raises ProfileError."""
    profiles = read_profiles()
    return profiles.logins[_existing(profiles, name or profiles.current)]


def write_profile(name: str, profile: Profile) -> Path:
    """Store a profile; the first one becomes the current one. Return the file. Raises ProfileError."""
    profiles = read_profiles()
    current = profiles.current if profiles.current in profiles.logins else name
    return _write(Profiles(current, {**profiles.logins, name: profile}))


def use_profile(name: str) -> None:
    """Make a profile the current one. Raises ProfileError."""
    profiles = read_profiles()
    _write(Profiles(_existing(profiles, name), profiles.logins))


def remove_profile(name: str | None = None) -> str:
    """Remove a profile, without a name the current one, and return its name. Raises ProfileError."""
    profiles = read_profiles()
    removed = _existing(profiles, name or profiles.current)
    _write(Profiles(profiles.current, {name: login for name, login in profiles.logins.items() if name != removed}))
    return removed


def file_that_others_read() -> Path | None:
    """Return the file of the profiles if other users of the machine can read it."""
    file = profiles_file()
    try:
        return file if os.name == "posix" and file.stat().st_mode & 0o077 else None
    except OSError:
        return None


def _existing(profiles: Profiles, name: str) -> str:
    if name not in profiles.logins:
        known = f"; there are {', '.join(sorted(profiles.logins))}" if profiles.logins else ""
        raise ProfileError(f"there is no profile {name!r}{known}; `longshore login` makes one")
    return name


def _write(profiles: Profiles) -> Path:
    """Write the file anew, so that only its owner can read it."""
    file = profiles_file()
    text = msgspec.json.format(msgspec.json.encode(profiles))
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, text + b"\n", FOR_OWNER)
    except OSError as error:
        raise ProfileError(f"the profiles cannot be stored in {file}: {error.strerror}") from None
    return file
