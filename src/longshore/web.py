"""The application: all endpoints behind the guard, with one handler of errors."""

import gc

from litestar import Litestar
from litestar.types import ASGIApp, ControllerRouterHandler

from longshore import actions, console, settings_sources
from longshore.api import (
    audit,
    auth,
    clients,
    credential,
    deliveries,
    destinations,
    docs_page,
    events,
    execute,
    health,
    indexes,
    keys,
    openapi,
    poll,
    results,
    run_files,
    runs,
    schedules,
    segments,
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
from longshore.api.service import lifespan
from longshore.console.pages import compile_templates, to_answer
from longshore.destinations import registry as kinds
from longshore.exports.export import ExportTarget
from longshore.settings import Settings
from longshore.sharing import profile, shares, tables
from longshore.telemetry import logs

MAX_BODY_BYTES = 64 * 1024

ENDPOINTS: list[ControllerRouterHandler] = [
    tasks.create_task,
    poll.get_task,
    tasks.list_tasks,
    execute.execute_task,
    tasks.get_task_progress,
    task_changes.change_task,
    task_changes.cancel_task,
    task_changes.delete_task,
    trigger_preview.preview_trigger,
    schedules.pause_task,
    schedules.resume_task,
    schedules.create_backfill,
    schedules.list_backfills,
    schedules.end_backfill,
    results.get_run_download_url,
    runs.list_runs,
    runs.get_run,
    events.stream_task_events,
    segments.create_segment,
    segments.list_segments,
    segments.get_segment,
    segments.replace_segment,
    segments.delete_segment,
    segments.preview_segment,
    indexes.list_indexes,
    indexes.get_index,
    runs.get_manifest,
    runs.get_manifest_signature,
    keys.get_signing_keys,
    run_files.list_run_files,
    runs.acknowledge_run,
    deliveries.deliver_run,
    deliveries.list_run_deliveries,
    results.get_download_url,
    results.list_download_links,
    results.revoke_download_link,
    results.download,
    auth.login,
    auth.open_session,
    auth.list_sessions,
    auth.end_session,
    auth.logout,
    auth.change_password,
    credential.get_credential,
    users.create_user,
    users.list_users,
    users.change_user,
    users.remove_user,
    clients.create_service_client,
    clients.list_service_clients,
    clients.get_service_client,
    clients.change_service_client,
    clients.create_access_token,
    clients.list_access_tokens,
    clients.get_access_token,
    clients.revoke_access_token,
    audit.list_audit_entries,
    profile.get_profile,
    profile.create_profile,
    profile.list_profiles,
    profile.revoke_profile,
    shares.list_shares,
    shares.get_share,
    shares.list_schemas,
    shares.list_all_tables,
    shares.list_tables,
    tables.get_table,
    tables.get_table_version,
    tables.get_table_metadata,
    tables.query_table,
    tables.get_table_changes,
    destinations.create_destination,
    destinations.list_destinations,
    destinations.test_new_destination,
    destinations.get_destination,
    destinations.change_destination,
    destinations.delete_destination,
    destinations.test_destination,
    destinations.list_destination_kinds,
    webhooks.create_webhook,
    webhooks.list_webhooks,
    webhooks.delete_webhook,
    webhooks.list_webhook_deliveries,
    webhooks.redeliver_webhook_delivery,
    webhooks.rotate_webhook_secret,
    webhooks.enable_webhook,
    health.get_health,
    health.get_readiness,
    health.get_metrics,
    health.get_problem,
    docs_page.get_docs,
    docs_page.assets,
    console.router,
]


def build(chosen: Settings) -> Litestar:
    """Return the application for settings with a `database_url`. Raises ActionLoadError and KindLoadError."""
    targets = {"export": ExportTarget} | {name: action.target for name, action in actions.load(chosen).items()}
    app = Litestar(
        route_handlers=ENDPOINTS,
        before_request=guard,  # Litestar copies the handler for each call of its own guards: 4 % of a poll
        exception_handlers={Exception: to_answer},
        lifespan=[lifespan],
        openapi_config=openapi.config(targets, kinds.load(chosen).values()),
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
    # These objects live as long as the process. A garbage collection of them would hold all requests for 60 ms.
    gc.collect()
    gc.freeze()
    return behind_proxies(app, chosen.proxies) if chosen.proxies else app
