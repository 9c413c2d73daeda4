"""The form of a task's page that makes a profile file; it needs no script."""

from litestar import Response, post
from litestar.params import RawBody

from longshore.api.bodies import check_body
from longshore.api.service import AnyRequest
from longshore.console.pages import form_of
from longshore.sharing.profile import DAY_SECONDS, Profile, ProfileBody, new_profile


@post("/console/{chain:int}/profile", include_in_schema=False, status_code=200)
async def make_profile(request: AnyRequest, body: RawBody) -> Response[Profile]:
    """Make a read token, and send its profile file."""
    days = form_of(body).get("days", "")
    seconds = int(days) * DAY_SECONDS if days.isascii() and days.isdigit() and len(days) < 4 else days
    return await new_profile(request, check_body(ProfileBody, {"expires_in": seconds}).expires_in)
