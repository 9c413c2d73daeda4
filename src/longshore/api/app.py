"""The application: all endpoints, behind one guard, with one way to answer errors."""

from litestar import Litestar
from litestar.types import ASGIApp

from longshore import logging, settings
from longshore.api import documentation, events, health, indexes, results, runs, segments, tasks, webhooks
from longshore.api.access import guard
from longshore.api.new_task import NewTaskBody
from longshore.api.problems import to_response
from longshore.api.requests import with_request_id
from longshore.api.segment_bodies import PreviewBody, SegmentBody
from longshore.api.service import lifespan
from longshore.settings import Settings

LARGEST_BODY = 64 * 1024  # bytes


def build(chosen: Settings) -> Litestar:
    """The application for these settings; `database_url` must be set."""
    app = Litestar(
        route_handlers=[
            tasks.create_task,
            tasks.get_task,
            tasks.list_tasks,
            tasks.execute_task,
            tasks.get_progress,
            tasks.list_runs,
            events.get_events,
            segments.create_segment,
            segments.list_segments,
            segments.get_segment,
            segments.replace_segment,
            segments.delete_segment,
            segments.preview_segment,
            indexes.list_indexes,
            indexes.get_index,
            tasks.get_manifest,
            runs.acknowledge_run,
            results.get_download_url,
            results.download,
            webhooks.create_webhook,
            webhooks.list_webhooks,
            webhooks.delete_webhook,
            webhooks.list_deliveries,
            webhooks.redeliver,
            health.get_health,
            health.get_readiness,
            health.get_metrics,
            health.get_problem,
            documentation.get_docs,
            documentation.assets,
        ],
        guards=[guard],
        exception_handlers={Exception: to_response},
        lifespan=[lifespan],
        openapi_config=documentation.config([NewTaskBody, SegmentBody, PreviewBody, webhooks.WebhookBody]),
        request_max_body_size=LARGEST_BODY,
        logging_config=None,
    )
    app.state.settings = chosen
    return app


def create() -> ASGIApp:
    """What Granian calls in each of its processes."""
    chosen = settings.load().settings
    logging.configure(chosen)
    return with_request_id(build(chosen))
