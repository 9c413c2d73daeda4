"""Actions: kinds of work of a task besides exporting. Packages add them by an entry point, see docs/extending.md.

    [project.entry-points."longshore.actions"]
    greet = "my_package:greet"

The entry point is called with the settings when a process starts and returns an `Action`; its name is the action's.
"""

from longshore.actions.action import GROUP, Action, ActionLoadError, Context, load
from longshore.errors import LongshoreError, TransientError
from longshore.settings import Settings
from longshore.tasks.model import Target

__all__ = [
    "GROUP",
    "Action",
    "ActionLoadError",
    "Context",
    "LongshoreError",
    "Settings",
    "Target",
    "TransientError",
    "load",
]
