"""The kinds of problems; each has a page under `/problems/`."""

import msgspec


class ProblemKind(msgspec.Struct, frozen=True):
    """A kind of problem, with the title and text of its page under `/problems/`."""

    status: int
    title: str
    about: str


KINDS = {
    "bad-request": ProblemKind(
        400,
        "The request cannot be used",
        "Each entry of `errors` names one violation: its place, and what was expected.",
    ),
    "unauthorized": ProblemKind(
        401,
        "No valid credential",
        "Send `Authorization: Bearer ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET` with a token that was not revoked, "
        "or the headers of a session that has not ended.",
    ),
    "forbidden": ProblemKind(
        403,
        "Not allowed",
        "The credential is valid, but not for this request: its level is too low, or it is for another chain.",
    ),
    "other-site": ProblemKind(
        403,
        "Request from another site",
        "A browser's request that changes something with a session's cookie must come from a page of this service.",
    ),
    "login-failed": ProblemKind(
        401, "Not signed in", "The user name, the password or the one-time code is wrong, or the attempt has ended."
    ),
    "bad-address": ProblemKind(
        403,
        "The address is not valid",
        "The download address was changed, was revoked, has expired or was used as often as it may be. "
        "Ask `GET /tasks/{id}/download_url` for a new one.",
    ),
    "not-found": ProblemKind(404, "No such page", "There is nothing at this path; `/docs` lists the endpoints."),
    "task-not-found": ProblemKind(
        404,
        "No such task",
        "This chain has no task of that number. A task of another chain is answered in the same way.",
    ),
    "segment-not-found": ProblemKind(
        404,
        "No such segment",
        "This chain has no stored segment of that id. One of another chain is answered in the same way.",
    ),
    "too-many-segments": ProblemKind(
        409, "Too many stored segments", "A chain may have 1,000. Delete one that is not needed."
    ),
    "destination-not-found": ProblemKind(
        404,
        "No such destination",
        "This chain has no destination of that id. One of another chain is answered in the same way.",
    ),
    "destination-exists": ProblemKind(
        409, "The destination exists", "The names of a chain's destinations differ; a name cannot be changed."
    ),
    "too-many-destinations": ProblemKind(
        409, "Too many destinations", "A chain may have 100. Delete one that is not needed."
    ),
    "destination-in-use": ProblemKind(
        409,
        "The destination is in use",
        "A task that names it is delivering, or has a run to come. Change the task's `deliver`, or cancel the task.",
    ),
    "destination-unusable": ProblemKind(
        409,
        "This version cannot use the destination",
        "Its kind is not installed, or what is stored is not of its kind any more; `detail` says which.",
    ),
    "secrets-unavailable": ProblemKind(
        503,
        "A secret cannot be stored or read",
        "The setting LONGSHORE_SECRET of the service is missing or was changed; its operator has to set it.",
    ),
    "index-not-found": ProblemKind(404, "No such index", "`GET /indexes` lists what can be exported."),
    "user-not-found": ProblemKind(404, "No such user", "This chain has no user of that id."),
    "own-level": ProblemKind(
        409,
        "Your own level",
        "An admin does not change, turn off or remove their own level, so that none locks themselves out; another "
        "admin of the chain can, and `longshore user level`.",
    ),
    "client-not-found": ProblemKind(
        404, "No such service client", "This chain has no service client of that id; `GET /service_clients` lists them."
    ),
    "token-not-found": ProblemKind(
        404, "No such access token", "No access token of that id is for this chain; `GET /access_tokens` lists them."
    ),
    "link-not-found": ProblemKind(
        404, "No such link", "`GET /tasks/{id}/links` lists the download addresses of the task."
    ),
    "session-not-found": ProblemKind(404, "No such session", "`GET /auth/sessions` lists your own."),
    "name-taken": ProblemKind(409, "The name is taken", "Upper and lower case are the same."),
    "share-name-taken": ProblemKind(
        409,
        "Another task of the chain is shared under this name",
        "A name of `target.share_as` is that of one table; upper and lower case are the same. Choose another one.",
    ),
    "table-not-found": ProblemKind(
        404,
        "No such share or table",
        "It does not exist, has no version now, or holds what the token may not see. `…/all-tables` lists the tables.",
    ),
    "run-not-found": ProblemKind(404, "No such run", "`GET /tasks/{id}/runs` lists the runs of the task."),
    "method-not-allowed": ProblemKind(405, "No such method here", "The `Allow` header lists the methods of this path."),
    "task-running": ProblemKind(409, "The task is running", "It is `INPROGRESS`; wait for `DONE` or `ERROR`."),
    "run-queued": ProblemKind(
        409, "Another run is queued", "A task has one queued run at a time; ask again once it has ended, or cancel it."
    ),
    "task-not-done": ProblemKind(
        409, "The task is not done", "There is a result to download only while the task is `DONE`."
    ),
    "no-export": ProblemKind(409, "The task is not an export", "Only exports leave a file to download."),
    "no-destinations": ProblemKind(
        409, "The target names no destination", "`PATCH` the target: `deliver` lists destinations of the chain."
    ),
    "run-delivering": ProblemKind(
        409,
        "The run is being delivered",
        "`GET /tasks/{id}/runs/{run}/deliveries` shows how far it is. Wait until all have ended, or cancel the task.",
    ),
    "later-run-delivered": ProblemKind(
        409,
        "A later run has been delivered there, or is on its way",
        "Rows or files of this run would come after those of a later one. Deliver that one again, or elsewhere.",
    ),
    "nothing-to-acknowledge": ProblemKind(
        409,
        "Nothing to acknowledge",
        "Only a run that is `DONE`, of a task whose target says `incremental: on_ack`, waits to be acknowledged.",
    ),
    "source-refused": ProblemKind(
        409,
        "The source refuses the query",
        "`detail` has the message of the source database; `longshore catalog check` finds most causes.",
    ),
    "result-gone": ProblemKind(
        410, "The result is gone", "Its file has expired or was deleted. Run the task again to get a new one."
    ),
    "nothing-to-cancel": ProblemKind(
        409, "There is nothing to cancel", "The task has ended, and no later run of it is planned."
    ),
    "no-schedule": ProblemKind(
        409,
        "The task has no schedule",
        "Its trigger has neither `repeat` nor `cron`, or its schedule was cancelled. `PATCH` the trigger to begin one.",
    ),
    "too-many-backfills": ProblemKind(
        409,
        "Too many backfills",
        "A task may have ten unfinished ones; `GET /tasks/{id}/backfills` shows them. Wait for one, or end one.",
    ),
    "backfill-not-found": ProblemKind(
        404, "No such backfill", "`GET /tasks/{id}/backfills` lists the backfills of the task."
    ),
    "changed-meanwhile": ProblemKind(
        412,
        "A precondition failed",
        "It has changed, so it does not meet `If-Match`, `If-None-Match` or `If-Unmodified-Since`. Read it again "
        "and send its `ETag` in `If-Match`. A resource without an `ETag` meets `If-Match: *` alone.",
    ),
    "too-large": ProblemKind(
        413, "The body is too large", "A request's body may have 64 KiB; a query for the files of a table 1 MiB."
    ),
    "head-too-large": ProblemKind(
        431,
        "The head is too large",
        "Path, query and header fields may have 256 KiB together, a field that is a list 8 KiB, and 100 fields.",
    ),
    "unsupported-coding": ProblemKind(
        415, "The content coding is not supported", "Send the body as it is, without `Content-Encoding`."
    ),
    "not-json": ProblemKind(
        415, "The body is not JSON", "Send JSON in UTF-8, and say so: `Content-Type: application/json`."
    ),
    "range-not-satisfiable": ProblemKind(
        416, "The file has no such range", "The `Content-Range` header says how many bytes the file has."
    ),
    "too-slow": ProblemKind(408, "The request came too slowly", "Its body has to arrive within ten seconds."),
    "too-many-requests": ProblemKind(
        429,
        "Too many requests",
        "Try again after the seconds in `Retry-After`. The `RateLimit` header has the requests left of each limit.",
    ),
    "overloaded": ProblemKind(
        503, "Too many requests at the same time", "Try again after the seconds in `Retry-After`."
    ),
    "client-gone": ProblemKind(499, "The client has gone", "The connection was closed before the answer."),
    "quota-used-up": ProblemKind(
        409,
        "The quota is used up",
        "The chain has stored as many tasks or bytes as the operator allows; `detail` has the figures. "
        "Delete tasks that are no longer needed.",
    ),
    "no-intervals": ProblemKind(
        409,
        "The task has no data intervals to run again",
        "Only a task with a schedule (`repeat` or `cron`) whose target is not `incremental`, and does not deliver to a "
        "table with `replace`, runs an interval again.",
    ),
    "not-incremental": ProblemKind(
        409,
        "The task is not incremental",
        "Only a task whose target is `incremental` has a watermark that a full run removes.",
    ),
    "run-withdrawn": ProblemKind(
        409,
        "The run was withdrawn",
        "Before the run began, it was cancelled, or the task was planned for another time; `GET /tasks/{id}` shows it.",
    ),
    "idempotency-key-reused": ProblemKind(
        422,
        "The key was used with another request",
        "An `Idempotency-Key` stands for one method, path and body for 24 hours; "
        "send the same request, or another key.",
    ),
    "webhook-not-found": ProblemKind(404, "No such webhook", "`GET /webhooks` lists those of the chain."),
    "delivery-not-found": ProblemKind(404, "No such delivery", "`GET /webhooks/{id}/deliveries` lists them."),
    "too-many-webhooks": ProblemKind(409, "Too many webhooks", "A chain may have 20. Delete one that is not needed."),
    "too-many-profile-files": ProblemKind(
        409,
        "Too many profile files",
        "A user may have 20 for a chain whose tokens are valid. `DELETE /delta-sharing/profiles/{id}` revokes one.",
    ),
    "webhook-secret-replaced": ProblemKind(
        409,
        "The webhook has another secret now",
        "A repeated request shows the first secret alone. `POST /webhooks/{id}/secret` creates a new one.",
    ),
    "too-many-webhook-secrets": ProblemKind(
        409,
        "Too many secrets of a webhook",
        "The three previous secrets still sign. Replace the secret again after their `previous_until`.",
    ),
    "webhook-disabled": ProblemKind(
        409, "The webhook is disabled", "Nothing is sent to a disabled webhook. `POST /webhooks/{id}/enable` ends that."
    ),
    "internal-error": ProblemKind(
        500,
        "The service failed",
        "The request is not the cause. The service's log has the error under the `request_id`.",
    ),
    "unavailable": ProblemKind(
        503,
        "A database cannot be reached",
        "Try again after the seconds in `Retry-After`. A change may have been made if the connection broke just then;"
        " with an `Idempotency-Key` it is made once.",
    ),
    "source-busy": ProblemKind(
        503, "The source cannot answer the preview now", "Try again after the seconds in `Retry-After`."
    ),
    "store-unavailable": ProblemKind(
        503, "The service cannot reach its results store", "Try again after the seconds in `Retry-After`."
    ),
    "stopping": ProblemKind(
        503, "The service is stopping", "The run was accepted and goes on; poll `GET /tasks/{id}`."
    ),
}
