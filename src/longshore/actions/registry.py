"""The actions of installed packages."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from longshore.actions.action import Action
from longshore.errors import LongshoreError
from longshore.settings import Settings

GROUP = "longshore.actions"
BUILT_IN = ("export", "cleanup")


class ActionLoadError(LongshoreError):
    """The action of a package cannot be used."""


def load(settings: Settings) -> Mapping[str, Action]:
    """Return the actions of all packages by name. Raises ActionLoadError."""
    actions: dict[str, Action] = {}
    for point in entry_points(group=GROUP):
        if point.name in BUILT_IN or point.name in actions:
            raise ActionLoadError(f"the action {point.name!r} of {point.value} is there already")
        try:
            action = point.load()(settings)
        except Exception as error:  # a package may raise any error
            raise ActionLoadError(f"the action {point.name!r} of {point.value} cannot be loaded: {error!r}") from error
        if not isinstance(action, Action):
            raise ActionLoadError(f"the action {point.name!r}: {point.value} gave no Action")
        actions[point.name] = action
    return actions
