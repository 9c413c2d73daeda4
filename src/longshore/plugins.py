"""The objects that installed packages add by entry points: actions, and kinds of destinations."""

from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from longshore.errors import LongshoreError
from longshore.settings import Settings

T = TypeVar("T")


class PluginLoadError(LongshoreError):
    """The object of a package cannot be used."""


def load_plugins(group: str, type_: type[T], settings: Settings, built_in: Collection[str] = ()) -> Mapping[str, T]:
    """Return the objects of a group by name. `built_in`: names that none may have. Raises PluginLoadError."""
    found: dict[str, T] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        named = f"{type_.__name__} {point.name!r} of {point.value}"
        if point.name in built_in:
            raise PluginLoadError(f"{named} cannot be loaded: the name is one of the service's own")
        if point.name in found:
            raise PluginLoadError(f"two packages install {point.name!r} in the group {group}, of which {named} is one")
        try:
            loaded = point.load()(settings)
        except Exception as error:  # a package may raise any error
            raise PluginLoadError(f"{named} cannot be loaded: {error!r}") from error
        if not isinstance(loaded, type_):
            raise PluginLoadError(f"{named}: it returned {type(loaded).__name__}, expected {type_.__name__}")
        found[point.name] = loaded
    return found
