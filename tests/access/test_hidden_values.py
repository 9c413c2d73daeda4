"""Whatever tokens, tasks, changes and stored segments there are: no answer holds what is hidden from its reader.

The model is independent of the service's own judgement: each source column holds values of its own, which are looked
for in all that the token is given; and what each run has read is kept here, from the requests alone.
"""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from longshore.access.tokens import Level, Scope
from tests.service import Longshore, ended

CHAIN = 4242
PAST = "2020-01-01T00:00:00Z"
COLUMNS = {
    "users": ["username", "first_name", "phone_number", "referral_code"],
    "products": ["owner_code", "brand", "season"],
}
ALL = [f"{index}.{column}" for index, columns in COLUMNS.items() for column in columns]
KINDS = {"first_name": "text"}
ROWS = 3

INSERT = """
insert into loyalty.{0}
select (jsonb_populate_record(r, $1::jsonb)).* from loyalty.{0} r where chain_id = 1765 order by id limit 1
"""

Read = frozenset[str]
"""Columns, such as `users.phone_number`."""


def value(column: str, row: int) -> str:
    """Return the value of a column in a row, which exists nowhere else."""
    return f"~{column}~{row}~"


class ModelTask(msgspec.Struct):
    """A task in the model."""

    target: dict[str, Any]
    rules: list[dict[str, Any]]
    stored: bool
    narrow: bool
    """Whether the limited token has set its target or trigger last."""
    runs: list[Read | None]
    """The reads of each run; None where it was refused."""


class HiddenValuesModel:
    """A wide client, a limited one, a stored segment and tasks."""

    def __init__(self, service: Longshore, hidden: list[str], indexes: list[str] | None) -> None:
        self.hidden = {c for c in ALL if c in hidden or (indexes is not None and c.split(".")[0] not in indexes)}
        self.indexes = indexes
        self.wide = service.client(Level.WRITE, CHAIN)
        self.narrow = service.client(Level.WRITE, CHAIN, Scope(indexes=indexes, hidden_columns=hidden))
        self.tasks: dict[int, ModelTask] = {}
        self.rules: list[dict[str, Any]] = []
        answer = self.wide.post("/segments", json=self._segment_body([]))
        assert answer.status_code == 201, answer.text
        self.stored: str = answer.json()["id"]
        self.given = ""
        """All that the limited token was answered."""

    def usable(self, index: str) -> bool:
        return self.indexes is None or index in self.indexes

    def close(self) -> None:
        self.wide.close()
        self.narrow.close()

    def _segment_body(self, rules: list[dict[str, Any]]) -> dict[str, Any]:
        return {"chain": CHAIN, "name": "s", "segment": segment("users", rules)}

    def ask(self, narrow: bool, method: str, path: str, body: Any = None) -> httpx2.Response:
        answer = (self.narrow if narrow else self.wide).request(method, path, json=body)
        if narrow:
            self.given += answer.text
            if answer.status_code >= 400:  # a name that the request did not have is not told
                sent = json.dumps(body)
                for column in self.hidden:
                    name = column.split(".")[1]
                    assert name in sent or not re.search(rf"\b{name}\b", answer.text), (answer.text, sent)
        return answer

    def read_by(self, known: ModelTask) -> Read:
        """Return the columns that a run of a task reads."""
        index = known.target["export_index"]
        fields = [field["name"] if isinstance(field, dict) else field for field in known.target["fields"]]
        rules = self.rules if known.stored else known.rules
        return frozenset(f"{index}.{name}" for name in (*fields, *(rule["field_name"] for rule in rules)))

    def create(self, narrow: bool, target: dict[str, Any], rules: list[dict[str, Any]], stored: bool) -> None:
        known = ModelTask(target, rules, stored and target["export_index"] == "users", narrow, [])
        body = {"chain": CHAIN, "desc": "", "target": target, "trigger": self._trigger(known)}
        answer = self.ask(narrow, "POST", "/tasks", body)
        allowed = not narrow or not self.read_by(known) & self.hidden
        assert answer.status_code == (201 if allowed else 403), answer.text
        if allowed:
            self.tasks[answer.json()["id"]] = known
            self._ran(answer.json()["id"], asked_narrow=narrow)

    def _trigger(self, known: ModelTask) -> dict[str, Any]:
        named = {"segment_id": self.stored} if known.stored else {}
        return {"once": PAST, **(named or {"segment": segment(known.target["export_index"], known.rules)})}

    def patch(self, narrow: bool, number: int, target: dict[str, Any]) -> None:
        id, known = self._task(number)
        changed = msgspec.structs.replace(known, target=target, narrow=narrow)
        if (known.stored or known.rules) and target["export_index"] != known.target["export_index"]:
            return  # which no segment of the other index fits
        changed.rules = known.rules
        body = {"target": target} if known.stored else {"target": target, "trigger": self._trigger(changed)}
        answer = self.ask(narrow, "PATCH", f"/tasks/{id}", body)
        before = frozenset[str]().union(*(run for run in known.runs if run), self.read_by(known))
        allowed = not narrow or not (before | self.read_by(changed)) & self.hidden
        assert answer.status_code == (200 if allowed else 403), answer.text
        if allowed:
            self.tasks[id] = changed

    def execute(self, narrow: bool, number: int) -> None:
        id, known = self._task(number)
        answer = self.ask(narrow, "POST", f"/tasks/{id}/execute")
        before = frozenset[str]().union(*(run for run in known.runs if run), self.read_by(known))
        allowed = not narrow or not before & self.hidden
        assert answer.status_code == (200 if allowed else 403), answer.text
        if allowed:
            self._ran(id, asked_narrow=narrow)

    def store(self, narrow: bool, rules: list[dict[str, Any]]) -> None:
        answer = self.ask(narrow, "PUT", f"/segments/{self.stored}", self._segment_body(rules))
        touched = {f"users.{rule['field_name']}" for rule in (*self.rules, *rules)}
        allowed = not narrow or (self.usable("users") and not touched & self.hidden)
        assert answer.status_code == (200 if allowed else 403), answer.text
        if allowed:
            self.rules = rules

    def _task(self, number: int) -> tuple[int, ModelTask]:
        ids = sorted(self.tasks)
        return ids[number % len(ids)], self.tasks[ids[number % len(ids)]]

    def _ran(self, id: int, *, asked_narrow: bool) -> None:
        known = self.tasks[id]
        reads = self.read_by(known)
        done = ended(self.wide, id)["state"]["code"] == "DONE"
        assert done == (not ((known.narrow or asked_narrow) and reads & self.hidden))
        known.runs.append(reads if done else None)

    def look(self) -> None:
        """Ask for all that there is with the limited token, and compare with the model."""
        for path in ("/tasks", "/segments", "/indexes", f"/segments/{self.stored}", "/indexes/users"):
            self.ask(True, "GET", path)
        for index, columns in COLUMNS.items():
            for fields in (None, columns, [columns[0]]):
                preview = {"segment": segment(index, []), **({"fields": fields} if fields else {})}
                self.ask(True, "POST", "/segments/preview", preview)
        for id, known in self.tasks.items():
            self._look_at(id, known)
        for column in self.hidden:
            assert f"~{column}~" not in self.given, column

    def _look_at(self, id: int, known: ModelTask) -> None:
        path = f"/tasks/{id}"
        whole = not frozenset[str]().union(*(run for run in known.runs if run)) & self.hidden
        for each in (path, f"{path}/events", f"{path}/progress", f"{path}/links"):
            answer = self.ask(True, "GET", each)
            assert whole or '"total"' not in answer.text, answer.text
        seen = [run["run"] for run in self.ask(True, "GET", f"{path}/runs").json()]
        visible = [number for number, run in enumerate(known.runs, 1) if not (run or frozenset()) & self.hidden]
        assert seen == visible[::-1]
        for number, run in enumerate(known.runs, 1):
            for what in ("download_url", "manifest", "manifest.jws", "files"):
                answer = self.ask(True, "GET", f"{path}/runs/{number}/{what}")
                refused = {True: {403}, False: {200}}[number not in visible] if run is not None else {404, 409}
                assert answer.status_code in refused, answer.text
                if answer.status_code == 200 and what == "download_url":
                    self.given += httpx2.get(answer.json()["url"], timeout=60).text
        answer = self.ask(True, "GET", f"{path}/download_url")
        assert answer.status_code == (409 if known.runs[-1] is None else 403 if known.runs[-1] & self.hidden else 200)


def segment(index: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"entity": "people", "index": index, "join": "all", "chain_id": CHAIN, "rules": rules}


@st.composite
def targets(draw: st.DrawFn) -> dict[str, Any]:
    index = draw(st.sampled_from(sorted(COLUMNS)))
    names = draw(st.lists(st.sampled_from(COLUMNS[index]), min_size=1, max_size=3, unique=True))
    renamed = draw(st.booleans())
    fields = [{"name": name, "as": f"c{number}"} if renamed else name for number, name in enumerate(names)]
    form = draw(st.sampled_from(["csv", "json"]))
    return {"action": "export", "export_index": index, "export_format": form, "fields": fields}


@st.composite
def rules_of(draw: st.DrawFn, index: str) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(COLUMNS[index]), max_size=2))
    found = []
    for name in names:
        row = draw(st.integers(0, ROWS - 1))
        kind = KINDS.get(name, "keyword")
        rule = {"field_name": name, "field_type": kind, "operator": "is", "value": value(f"{index}.{name}", row)}
        found.append(rule)
    return found


@st.composite
def steps(draw: st.DrawFn) -> tuple[Any, ...]:
    narrow, number = draw(st.booleans()), draw(st.integers(0, 5))
    match draw(st.sampled_from(["create", "create", "patch", "execute", "store"])):
        case "create":
            target = draw(targets())
            return "create", narrow, target, draw(rules_of(target["export_index"])), draw(st.booleans())
        case "patch":
            return "patch", narrow, number, draw(targets())
        case "execute":
            return "execute", narrow, number
        case _:
            return "store", narrow, draw(rules_of("users"))


@pytest.fixture(scope="module")
def hidden_values_service(service: Longshore) -> Iterator[Longshore]:
    """The service with a chain whose columns hold values of their own."""
    ids = itertools.count(9_000_000_000)
    for index, columns in COLUMNS.items():
        for row in range(ROWS):
            record = {name: value(f"{index}.{name}", row) for name in columns}
            service.sql(INSERT.format(index), json.dumps({**record, "id": next(ids), "chain_id": CHAIN}))
    yield service


LIMITS = st.tuples(
    st.lists(st.sampled_from(ALL), max_size=4, unique=True), st.sampled_from([None, None, ["users"], ["products"]])
)


# A program is its own explanation, and to find a smaller one takes minutes.
@settings(max_examples=12, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@given(limits=LIMITS, program=st.lists(steps(), min_size=3, max_size=7))
def test_no_answer_holds_what_is_hidden_from_the_token_that_asks(
    hidden_values_service: Longshore, limits: tuple[list[str], list[str] | None], program: list[tuple[Any, ...]]
) -> None:
    world = HiddenValuesModel(hidden_values_service, *limits)
    try:
        first = {"action": "export", "export_index": "users", "export_format": "csv", "fields": ["username"]}
        world.create(False, first, [], True)
        for name, *arguments in program:
            getattr(world, name)(*arguments)
        world.look()
    finally:
        world.close()
