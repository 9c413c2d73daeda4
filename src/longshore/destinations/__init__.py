"""Destinations: chains' own places for results. Packages add kinds by an entry point, see docs/extending.md.

    [project.entry-points."longshore.destinations"]
    webdav = "my_package:webdav"

The entry point is called with the settings when a process starts and returns a `Kind`; its name is the kind's.
"""

from longshore.destinations.kind import (
    GROUP,
    DeliveryRecord,
    DestinationError,
    DestinationUnavailableError,
    File,
    FilePlace,
    Kind,
    KindLoadError,
    OpenDestination,
    SecretStruct,
    Step,
    TableColumn,
    TableEvidence,
    TableLoad,
    TablePlace,
    load,
)
from longshore.validation import Violation

__all__ = [
    "GROUP",
    "DeliveryRecord",
    "DestinationError",
    "DestinationUnavailableError",
    "File",
    "FilePlace",
    "Kind",
    "KindLoadError",
    "OpenDestination",
    "SecretStruct",
    "Step",
    "TableColumn",
    "TableEvidence",
    "TableLoad",
    "TablePlace",
    "Violation",
    "load",
]
