"""The time zone of a page's days: the `zone` of its address, else of the cookie that a script sets, else UTC."""

from datetime import datetime
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from longshore.api.service import AnyRequest
from longshore.exports.segments.rules import is_zone

COOKIE = "zone"


def zone_of(request: AnyRequest, named: str) -> str:
    """Return the IANA name of the zone for a page. `named`: by its address; empty for none."""
    names = (named, unquote(request.cookies.get(COOKIE, "")))
    return next((name for name in names if is_zone(name)), "UTC")


def with_offset(local: str, zone: str) -> str:
    """Return a time of a form with its offset, which is that of the zone where the form has none.

    A text that is no time comes back as it is, as does a time without an offset where there is no such zone: the API
    names the violation.
    """
    try:
        moment = datetime.fromisoformat(local)
    except ValueError:
        return local
    if moment.tzinfo is None:
        if not is_zone(zone):
            return local
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.isoformat()
