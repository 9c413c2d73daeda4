"""Errors of the client survive pickling, as pools of processes and task queues do it with the errors of their jobs."""

import copy
import multiprocessing
import pickle
from datetime import UTC, datetime

import pytest

from longshore import client
from longshore.client import ClientError, NotFoundError, ProblemError, TaskFailedError
from longshore.client.errors import BY_STATUS, Violation
from longshore.client.model import LogEntry, State, TaskData

NOW = datetime(2026, 5, 26, tzinfo=UTC)
LOGS = [LogEntry(msg="no such column", time=NOW), LogEntry(msg="INPROGRESS -> ERROR", time=NOW)]
TASK = TaskData(7, 1764, "", State("ERROR", NOW, NOW, NOW), {}, {}, LOGS)
FAULT = Violation("expected a number", "/target")


def problem(kind: type[ProblemError]) -> ProblemError:
    return kind(type="/problems/x", title="No", status=400, detail="why", request_id="r1", errors=[FAULT])


ERRORS = [
    *(problem(kind) for kind in dict.fromkeys([*BY_STATUS.values(), ProblemError])),
    TaskFailedError(TASK),
    *(getattr(client, name)("why") for name in sorted(client.__all__)
      if name.endswith("Error") and not issubclass(getattr(client, name), (ProblemError, TaskFailedError))),
]  # fmt: skip


def fail(number: int) -> None:
    raise ERRORS[number]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_is_the_same_after_pickling_and_copying(error: ClientError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_pool_of_processes_hands_the_errors_on() -> None:
    kinds = [type(error) for error in ERRORS]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(TaskFailedError, match="no such column") as failed:
            pool.apply_async(fail, (kinds.index(TaskFailedError),)).get(60)
        assert failed.value.task == TASK
        with pytest.raises(NotFoundError) as missing:
            pool.apply_async(fail, (kinds.index(NotFoundError),)).get(60)
        assert missing.value.errors == (FAULT,)
