"""The time zone of a page's days: the one that its address names, else the browser's, which a script tells, or UTC."""

from urllib.parse import unquote
from zoneinfo import ZoneInfo

from longshore.api.service import AnyRequest

COOKIE = "zone"


def zone_of(request: AnyRequest, named: str) -> str:
    """Return the IANA name of the zone for a page. `named`: by its address; empty for none."""
    for name in (named, unquote(request.cookies.get(COOKIE, ""))):
        try:
            if name and ZoneInfo(name):
                return name
        except (ValueError, OSError):  # no zone, or a path
            continue
    return "UTC"
