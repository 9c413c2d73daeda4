"""Finding the actions that the installed packages add."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from longshore.actions.action import Action
from longshore.errors import LongshoreError
from longshore.settings import Settings

GROUP = "longshore.actions"
OWN = ("export", "cleanup")


class ActionLoadError(LongshoreError):
    """An action that a package adds cannot be used."""


def load(settings: Settings) -> Mapping[str, Action]:
    """All actions of all packages, by their names. Raises ActionLoadError."""
    found: dict[str, Action] = {}
    for point in entry_points(group=GROUP):
        if point.name in OWN or point.name in found:
            raise ActionLoadError(f"the action {point.name!r} of {point.value} is there already")
        try:
            action = point.load()(settings)
        except Exception as error:  # whatever a package's code may raise
            raise ActionLoadError(f"the action {point.name!r} of {point.value} cannot be loaded: {error!r}") from error
        if not isinstance(action, Action):
            raise ActionLoadError(f"the action {point.name!r}: {point.value} gave no Action")
        found[point.name] = action
    return found
