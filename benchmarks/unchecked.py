"""The API without the token check, which lets everybody in as a reader of the chain: what `door` compares with."""

from litestar.types import ASGIApp
from tests.service import CHAIN

from longshore import web
from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import Caller, Level
from longshore.tasks.model import ChainId

READER = {"": Caller(ChainId(CHAIN), Level.READ, "token", "")}


async def _let_in(_self: TokenAuth, _authorization: str | None) -> dict[str, Caller]:
    return READER


def create() -> ASGIApp:
    """Return the application; called by Granian."""
    TokenAuth.callers = _let_in  # type: ignore[method-assign,assignment]  # what is measured is what this leaves out
    return web.create()
