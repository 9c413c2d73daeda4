"""The application: all endpoints behind the guard, with one handler of errors."""

import gc
from types import ModuleType

from litestar import Litestar, Router
from litestar.types import ASGIApp

from longshore import actions, console, settings_sources
from longshore.api import (
    audit,
    auth,
    clients,
    credential,
    deliveries,
    destinations,
    docs_page,
    downloads,
    events,
    execute,
    health,
    indexes,
    openapi,
    poll,
    run_files,
    runs,
    schedules,
    segments,
    signing_keys,
    task_changes,
    tasks,
    trigger_preview,
    users,
    webhooks,
)
from longshore.api.compression import with_compression
from longshore.api.cors import with_cors
from longshore.api.guard import guard
from longshore.api.middleware import with_middleware
from longshore.api.proxies import behind_proxies
from longshore.api.request_head import refuse_malformed
from longshore.api.routes import endpoints_of
from longshore.api.service import lifespan
from longshore.console.pages import error_answer
from longshore.console.rendering import compile_templates
from longshore.destinations import load as load_kinds
from longshore.exports.target import ExportTarget
from longshore.settings import Settings
from longshore.sharing import profile, shares, tables
from longshore.telemetry import logs

MAX_BODY_BYTES = 64 * 1024
GARBAGE_COLLECTION_THRESHOLD = 10_000  # objects made and not freed

MODULES: dict[str, tuple[ModuleType, ...]] = {
    "tasks": (tasks, poll, execute, task_changes, trigger_preview, events),
    "schedules": (schedules,),
    "runs": (runs, run_files, downloads, deliveries),
    "indexes": (indexes,),
    "segments": (segments,),
    "destinations": (destinations,),
    "sharing": (profile, shares, tables),
    "webhooks": (webhooks,),
    "sessions": (auth, credential),
    "users": (users,),
    "service_clients": (clients,),
    "audit": (audit,),
    "service": (health, signing_keys, docs_page),
}
"""The modules of the API's endpoints, by the tag of their operations in the OpenAPI document."""


def build(chosen: Settings) -> Litestar:
    """Return the application for settings with a `database_url`. Raises ActionLoadError and KindLoadError."""
    targets = {"export": ExportTarget} | {name: action.target for name, action in actions.load(chosen).items()}
    app = Litestar(
        route_handlers=[
            *(Router("/", route_handlers=endpoints_of(*modules), tags=[tag]) for tag, modules in MODULES.items()),
            docs_page.assets,
            console.router,
        ],
        before_request=guard,  # Litestar copies the handler for each call of its own guards: 4 % of a poll
        exception_handlers={Exception: error_answer},
        lifespan=[lifespan],
        openapi_config=openapi.config(targets, load_kinds(chosen).values()),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )
    app.state.settings = chosen
    return app


def prepare(app: Litestar) -> None:
    """Build the API's document and the pages, which the first requests would otherwise do in the event loop."""
    openapi.document(app)
    compile_templates()


def create() -> ASGIApp:
    """Return the application of a process, for Granian."""
    chosen = settings_sources.load().settings
    logs.configure(chosen)
    built = build(chosen)
    prepare(built)
    app = with_compression(refuse_malformed(built))
    app = with_middleware(with_cors(app, chosen.origins) if chosen.origins else app)
    # These objects live as long as the process. A garbage collection of them would hold all requests for 60 ms, and one
    # of what 6,000 waiting requests have for 400 ms: with Python's own threshold there is one for every few hundred.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)
    return behind_proxies(app, chosen.proxies) if chosen.proxies else app
