"""The peer of the poll benchmark: what a FastAPI developer would write to answer `GET /tasks/{id}`.

The plain way of FastAPI's own tutorial: pydantic models as the return type (which FastAPI writes as JSON by pydantic's
compiled serialiser), a dependency for the token, a pool from the lifespan. Statement and token check are Longshore's.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request
from pydantic import BaseModel

from longshore.access.doorkeeper import Doorkeeper
from longshore.access.tokens import Caller, ForbiddenError, Level, UnauthorizedError
from longshore.tasks.model import FORMAT_VERSION
from longshore.tasks.read import GET


class State(BaseModel):
    code: str
    last_run_date: datetime | None
    last_modified: datetime
    created_date: datetime


class LogLine(BaseModel):
    msg: str
    time: datetime


class Summary(BaseModel):
    errors: int
    msg: str
    skips: int
    success: int
    time: datetime
    total: int


class Task(BaseModel):
    id: int
    chain: int
    desc: str
    state: State
    trigger: dict[str, Any]
    target: dict[str, Any]
    logs: list[LogLine | Summary]
    debug: str
    version: int
    result: str


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Ten connections, asyncpg's default and the number that Longshore's API has."""
    async with asyncpg.create_pool(os.environ["LONGSHORE_DATABASE_URL"]) as pool:
        app.state.pool = pool
        app.state.doorkeeper = Doorkeeper(pool)
        yield


app = FastAPI(lifespan=lifespan)


async def reader(request: Request, authorization: Annotated[str | None, Header()] = None) -> Caller:
    try:
        caller: Caller = await request.app.state.doorkeeper.caller(authorization, None, Level.READ)
    except UnauthorizedError:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"}) from None
    except ForbiddenError:
        raise HTTPException(403) from None
    return caller


@app.get("/tasks/{id}")
async def get_task(
    request: Request,
    caller: Annotated[Caller, Depends(reader)],
    id: Annotated[int, Path(ge=1)],
    log_limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Task:
    row = await request.app.state.pool.fetchrow(GET, id, caller.chain, offset, log_limit, ())
    if row is None:
        raise HTTPException(404, "No such task")
    return Task(
        id=row["id"],
        chain=row["chain_id"],
        desc=row["description"],
        state=State(
            code=row["state"],
            last_run_date=row["last_run_at"] and whole(row["last_run_at"]),
            last_modified=whole(row["modified_at"]),
            created_date=whole(row["created_at"]),
        ),
        trigger=json.loads(row["trigger"]),
        target=json.loads(row["target"]),
        logs=[log_line(entry) for entry in row["logs"]],
        debug=row["debug"],
        version=FORMAT_VERSION,
        result=row["result"],
    )


def log_line(entry: asyncpg.Record) -> LogLine | Summary:
    msg, at, total, success, skips, errors = entry
    if total is None:
        return LogLine(msg=msg, time=whole(at))
    return Summary(errors=errors, msg=msg, skips=skips, success=success, time=whole(at), total=total)


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
