"""Entries of the table of `routes` beside levels: endpoints that need none, and checks of what a caller may see."""

from enum import Enum


class Open(Enum):
    """The requirement of an endpoint that needs no level."""

    PROBE = "monitoring; without rate limits"
    ANYBODY = "no credential"
    USER = "a signed-in user of any level"


class Check(Enum):
    """The check of `visibility_checks` that an endpoint makes of the task, run or segment."""

    SEE_RUN = "`may_see_run`: 403 where the credential may not see all that the run has read"
    SEE_TABLE = "`sees`: not listed, and 404, where the credential may not see all that the version's run has read"
    SHOW_TASK = "`shown_task`: without the rules, counts and messages that it may not see"
    CHANGE_TASK = "`may_change_task`: 403 where it may not see all that the task requests and has read"
    MAKE_TASK = "`may_have`: 403 where the task requests data that is hidden from it"
    SEGMENT = "`may_see_segment` or `shown_segment`: without rules of columns that it may not see"
    INDEX = "`seen`: the part of the catalog that it may see"


CHAIN = "an admin of the chain, whose tokens have no limits"
SERVICE = "has nothing of the data that tasks read"
OWN_TOKEN = "makes a read token, which sees no more than the user"  # noqa: S105
SHARE = "names the chains of the token alone"
PAGE = "scripts and forms; their requests go to endpoints of this table"
