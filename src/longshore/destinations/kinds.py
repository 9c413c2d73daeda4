"""The kinds of destinations: those of this package and of other packages, by entry point."""

from collections.abc import Mapping

from longshore.destinations.kind import Kind
from longshore.plugins import PluginLoadError, load_plugins
from longshore.settings import Settings

GROUP = "longshore.destinations"
KindLoadError = PluginLoadError


def load(settings: Settings) -> Mapping[str, Kind]:
    """Return the kinds of all packages by name. Raises KindLoadError."""
    return load_plugins(GROUP, Kind, settings)
