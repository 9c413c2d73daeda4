"""The peer of the poll benchmark: what a FastAPI developer would write to answer `GET /tasks/{id}`.

The plain way of the tutorials of FastAPI and of SQLAlchemy: mapped classes, a session for each request from the
`async_sessionmaker`, pydantic models as the return type, which FastAPI writes as JSON by pydantic's compiled code.
The token check is Longshore's own, with a connection of its own.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request
from pydantic import BaseModel
from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import Caller, Level, UnauthorizedError
from longshore.api.service import POOL_SIZE
from longshore.tasks.model import FORMAT_VERSION


class Base(DeclarativeBase):
    type_annotation_map = {int: BigInteger, datetime: DateTime(timezone=True), dict[str, Any]: JSON}  # noqa: RUF012


class TaskRow(Base):
    __tablename__ = "tasks"
    __table_args__ = {"schema": "longshore"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    chain_id: Mapped[int]
    description: Mapped[str]
    trigger: Mapped[dict[str, Any]]
    target: Mapped[dict[str, Any]]
    debug: Mapped[str]
    state: Mapped[str]
    result: Mapped[str]
    created_at: Mapped[datetime]
    modified_at: Mapped[datetime]
    last_run_at: Mapped[datetime | None]


class LogRow(Base):
    __tablename__ = "task_logs"
    __table_args__ = {"schema": "longshore"}  # noqa: RUF012

    task_id: Mapped[int] = mapped_column(ForeignKey(TaskRow.id), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    msg: Mapped[str]
    total: Mapped[int | None]
    success: Mapped[int | None]
    skips: Mapped[int | None]
    errors: Mapped[int | None]


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


@dataclass(frozen=True)
class Peer:
    """The connections of the process, with their types, which `app.state` does not know."""

    sessions: async_sessionmaker[AsyncSession]
    token_auth: TokenAuth


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["LONGSHORE_DATABASE_URL"]
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"), pool_size=POOL_SIZE, max_overflow=0
    )
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        app.state.peer = Peer(async_sessionmaker(engine, expire_on_commit=False), TokenAuth(pool))
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


def peer(request: Request) -> Peer:
    found: Peer = request.app.state.peer
    return found


async def session(peer: Annotated[Peer, Depends(peer)]) -> AsyncIterator[AsyncSession]:
    async with peer.sessions() as session:
        yield session


async def reader(peer: Annotated[Peer, Depends(peer)], authorization: Annotated[str | None, Header()] = None) -> Caller:
    try:
        callers = await peer.token_auth.callers(authorization)
    except UnauthorizedError:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"}) from None
    caller = callers[""]
    if caller.level < Level.READ:
        raise HTTPException(403)
    return caller


@app.get("/tasks/{id}")
async def get_task(
    caller: Annotated[Caller, Depends(reader)],
    session: Annotated[AsyncSession, Depends(session)],
    id: Annotated[int, Path(ge=1)],
    log_limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Task:
    row = await session.scalar(select(TaskRow).where(TaskRow.id == id, TaskRow.chain_id == caller.chain))
    if row is None:
        raise HTTPException(404, "No such task")
    page = select(LogRow).where(LogRow.task_id == id).order_by(LogRow.seq).offset(offset).limit(log_limit)
    return Task(
        id=row.id,
        chain=row.chain_id,
        desc=row.description,
        state=State(
            code=row.state,
            last_run_date=row.last_run_at and whole(row.last_run_at),
            last_modified=whole(row.modified_at),
            created_date=whole(row.created_at),
        ),
        trigger=row.trigger,
        target=row.target,
        logs=[log_line(entry) for entry in await session.scalars(page)],
        debug=row.debug,
        version=FORMAT_VERSION,
        result=row.result,
    )


def log_line(entry: LogRow) -> LogLine | Summary:
    if entry.total is None or entry.success is None or entry.skips is None or entry.errors is None:
        return LogLine(msg=entry.msg, time=whole(entry.at))
    return Summary(
        errors=entry.errors,
        msg=entry.msg,
        skips=entry.skips,
        success=entry.success,
        time=whole(entry.at),
        total=entry.total,
    )


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
