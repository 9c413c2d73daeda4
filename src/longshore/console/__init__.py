"""Pages for people, at `/`: server-rendered, kept up to date by htmx and server-sent events.

Pages only read. Whatever they change goes to the API itself, with the session's cookie, as any other client's request
does, or, from forms without a script, to its functions; so there is one place that checks it.
"""

from litestar import Router

from longshore.api.static import static_files
from longshore.console import (
    access,
    admin,
    destinations,
    export,
    export_form,
    profile,
    run,
    schedules,
    sign_in,
    task,
    tasks,
)
from longshore.console.pages import STATIC, to_page

assets = static_files("/console/static", STATIC, sorted(path.name for path in STATIC.iterdir() if path.suffix != ".md"))

router = Router(
    path="/",
    route_handlers=[
        sign_in.home,
        sign_in.show,
        sign_in.sign_in,
        sign_in.passcode,
        sign_in.sign_out,
        tasks.start,
        tasks.list_tasks,
        tasks.change_selected,
        task.show_task,
        task.task_events,
        task.download,
        task.revoke_link,
        task.deliver_again,
        run.show_run,
        run.show_rows,
        run.show_files,
        run.show_manifest,
        run.download_run,
        schedules.show_schedules,
        schedules.pause,
        schedules.resume,
        schedules.backfill,
        schedules.end_backfill,
        profile.make_profile,
        export.new_export,
        export.forecast,
        export_form.create_export,
        export_form.store_segment,
        export.show_segments,
        export.delete_segment,
        destinations.show_destinations,
        destinations.show_new_destination,
        destinations.create_destination,
        destinations.show_destination,
        destinations.test_destination,
        destinations.show_change,
        destinations.change_destination,
        destinations.delete_destination,
        access.show_access,
        access.add_client,
        access.turn_client,
        access.add_token,
        access.revoke_token,
        access.revoke_own_profile,
        access.add_user,
        access.turn_user,
        access.end_session,
        access.set_password,
        admin.show_audit,
        admin.show_system,
        assets,
    ],
    exception_handlers={Exception: to_page},
)
