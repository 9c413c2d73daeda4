"""The check of a new export with deletes: the source is asked whether the changes of the index can be determined."""

import asyncpg
import msgspec
import structlog

from longshore.access.tokens import Caller
from longshore.api.service import Service
from longshore.errors import LongshoreError
from longshore.exports.columns import choices
from longshore.exports.increments import changes
from longshore.exports.target import ExportTarget
from longshore.tasks.requests import NewTask
from longshore.validation import ValidationError, Violation

log = structlog.get_logger()


async def refuse_unsuited(service: Service, caller: Caller, new: NewTask) -> None:
    """Raise ValidationError where the source says that an index cannot have deletes.

    Where the source does not answer, the task is accepted, and its runs say the same.
    """
    if new.action != "export":
        return
    target = msgspec.json.decode(new.target, type=ExportTarget)
    if not target.deletes:
        return
    part = target.of(target.export_index)
    index = service.catalog[part.export_index]
    pool = service.pool if index.in_service_database else service.source
    async with service.previews.turn(caller.chain):
        try:
            await changes.refuse_unsuited(pool, index, choices(part.fields, index), new.chain)
        except LongshoreError as error:
            raise ValidationError([Violation(str(error), "/target/deletes")]) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("the source was not asked whether an index can have deletes", reason=str(error))
