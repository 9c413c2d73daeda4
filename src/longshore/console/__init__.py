"""Pages for users, at `/`: server-rendered, kept up to date by htmx and server-sent events.

Pages only read. The API's own functions carry out their forms, with and without scripts, so there is one place that
checks what they change.
"""

from litestar import Router

from longshore.api.routes import endpoints_of
from longshore.api.static import static_files
from longshore.console import (
    access,
    audit,
    destinations,
    export,
    run,
    schedules,
    segments,
    sign_in,
    system,
    task,
    tasks,
)
from longshore.console.pages import STATIC, error_page

assets = static_files("/console/static", STATIC, sorted(path.name for path in STATIC.iterdir() if path.suffix != ".md"))

router = Router(
    path="/",
    route_handlers=[
        *endpoints_of(sign_in, tasks, task, run, schedules, export, segments, destinations, access, audit, system),
        assets,
    ],
    exception_handlers={Exception: error_page},
)
