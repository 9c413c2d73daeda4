"""The kinds of destinations: those of this package and of other packages, by entry point."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from longshore.destinations.kind import Kind
from longshore.errors import LongshoreError
from longshore.settings import Settings

GROUP = "longshore.destinations"


class KindLoadError(LongshoreError):
    """The kind of destination of a package cannot be used."""


def load(settings: Settings) -> Mapping[str, Kind]:
    """Return the kinds of all packages by name. Raises KindLoadError."""
    kinds: dict[str, Kind] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in kinds:
            raise KindLoadError(f"the kind of destination {point.name!r} of {point.value} is there already")
        try:
            kind = point.load()(settings)
        except Exception as error:  # a package may raise any error
            raise KindLoadError(
                f"the kind of destination {point.name!r} of {point.value} cannot be loaded: {error!r}"
            ) from error
        if not isinstance(kind, Kind):
            raise KindLoadError(f"the kind of destination {point.name!r}: {point.value} gave no Kind")
        kinds[point.name] = kind
    return kinds
