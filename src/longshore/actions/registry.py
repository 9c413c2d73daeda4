"""The actions of installed packages."""

from collections.abc import Mapping

from longshore.actions.action import Action
from longshore.plugins import PluginLoadError, load_plugins
from longshore.settings import Settings

GROUP = "longshore.actions"
BUILT_IN = ("export", "cleanup")
ActionLoadError = PluginLoadError


def load(settings: Settings) -> Mapping[str, Action]:
    """Return the actions of all packages by name. Raises ActionLoadError."""
    return load_plugins(GROUP, Action, settings, BUILT_IN)
