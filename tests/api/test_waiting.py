"""Waiting for a new revision: `ETag`, long poll, event stream; and the next step in the progress."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import psutil
import pytest

from longshore.access.tokens import Level
from tests.answers import problem, violations
from tests.run_steps import play
from tests.service import Longshore, export_body
from tests.waiting import until

MAX_SECONDS = 20  # for what happens at once, on a busy machine


@pytest.fixture
def task(idle_client: httpx2.Client) -> int:
    """A task that is due, on a service where nobody works."""
    found: int = idle_client.post("/tasks", json=export_body()).json()["id"]
    return found


def after(seconds: float, idle_service: Longshore, task: int, *steps: str) -> threading.Timer:
    """Take steps of a run a little later."""
    timer = threading.Timer(seconds, play, (idle_service, task, *steps))
    timer.start()
    return timer


def once_a_request_waits(idle_service: Longshore, task: int, *steps: str) -> None:
    """Take steps of a run when a request waits for the task."""
    until(lambda: "\nlongshore_waiters 0" not in httpx2.get(f"{idle_service.address}/metrics").text, "somebody to wait")
    time.sleep(0.3)
    play(idle_service, task, *steps)


def test_an_unchanged_task_is_not_sent_again_whatever_page_of_its_log(idle_client: httpx2.Client, task: int) -> None:
    first = idle_client.get(f"/tasks/{task}")
    assert first.headers["etag"] == f'"{task}-1"'
    for tag in (first.headers["etag"], f'W/"{task}-1"', f'"{task}-0" , "{task}-1"', "*"):
        again = idle_client.get(f"/tasks/{task}", params={"log_limit": 3}, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    for tag in (f'"{task}-2"', f'"{task + 1}-1"', f"{task}-1", '"x"', ""):
        assert idle_client.get(f"/tasks/{task}", headers={"If-None-Match": tag}).json() == first.json()


def test_every_change_is_a_new_revision_and_progress_is_none(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    tags = []
    for step in ("begin", "report", "finish"):
        play(idle_service, task, step)
        tags.append(idle_client.get(f"/tasks/{task}").headers["etag"])
    assert tags == [f'"{task}-2"', f'"{task}-2"', f'"{task}-3"']


def test_only_unfinished_tasks_are_answered_with_retry_after(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    later = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    assert idle_client.get(f"/tasks/{later}").headers["retry-after"] == "30"
    assert idle_client.get(f"/tasks/{task}").headers["retry-after"] == "2"
    play(idle_service, task, "begin", "report")
    idle_service.sql(
        "update longshore.runs set rows = 100, rows_expected = 260, attempt_began_at = progress_at - interval '10 s'"
        " where task_id = $1",
        task,
    )
    answer = idle_client.get(f"/tasks/{task}", headers={"If-None-Match": f'"{task}-2"'})
    assert (answer.status_code, answer.headers["retry-after"]) == (304, "16")
    play(idle_service, task, "finish")
    assert "retry-after" not in idle_client.get(f"/tasks/{task}").headers


@pytest.mark.parametrize("way", ["query", "preference"])
def test_a_long_poll_answers_at_the_next_change(
    idle_client: httpx2.Client, idle_service: Longshore, task: int, way: str
) -> None:
    asked: dict[str, Any] = {"params": {"wait": 60}} if way == "query" else {"headers": {"Prefer": "wait=60"}}
    changing = threading.Thread(target=once_a_request_waits, args=(idle_service, task, "begin"))
    changing.start()
    answer = idle_client.get(f"/tasks/{task}", **asked)
    assert answer.elapsed.total_seconds() < 2 * MAX_SECONDS
    assert answer.json()["state"]["code"] == "INPROGRESS"
    assert answer.headers["etag"] == f'"{task}-2"'
    assert answer.headers.get("preference-applied") == (None if way == "query" else "wait=60")
    changing.join()


def test_a_long_poll_that_knows_an_older_revision_answers_at_once(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    tag = idle_client.get(f"/tasks/{task}").headers["etag"]
    began = time.monotonic()
    assert (
        idle_client.get(f"/tasks/{task}", params={"wait": 60}, headers={"If-None-Match": '""'}).headers["etag"] == tag
    )
    play(idle_service, task, "begin", "finish")
    answer = idle_client.get(f"/tasks/{task}", params={"wait": 60}, headers={"If-None-Match": tag})
    assert answer.json()["state"]["code"] == "DONE"
    assert idle_client.get(f"/tasks/{task}", params={"wait": 60}).json() == answer.json(), "nothing comes next"
    assert time.monotonic() - began < MAX_SECONDS


def test_long_poll_without_a_change_is_answered_as_a_poll(idle_client: httpx2.Client, task: int) -> None:
    usual = idle_client.get(f"/tasks/{task}")
    vain = idle_client.get(f"/tasks/{task}", params={"wait": 1})
    assert (vain.status_code, vain.json()) == (200, usual.json())
    headers = {"If-None-Match": usual.headers["etag"], "Prefer": "respond-async, wait=1"}
    assert idle_client.get(f"/tasks/{task}", headers=headers).status_code == 304
    assert violations(idle_client.get(f"/tasks/{task}", params={"wait": 61})) == {
        "wait": "expected an integer of at most 60"
    }


def test_another_chains_task_is_not_waited_for(idle_service: Longshore, task: int) -> None:
    with idle_service.client(Level.ADMIN, chain=9) as other:
        problem(other.get(f"/tasks/{task}", params={"wait": 60}), "task-not-found")
        problem(other.get(f"/tasks/{task}/events"), "task-not-found")


def test_a_deleted_task_ends_the_wait(idle_client: httpx2.Client, idle_service: Longshore, task: int) -> None:
    delete = "delete from longshore.tasks where id = $1"
    timer = threading.Timer(0.3, idle_service.sql, (delete, task))
    timer.start()
    problem(idle_client.get(f"/tasks/{task}", params={"wait": 60}), "task-not-found")
    timer.join()


def events(answer: httpx2.Response) -> Iterator[tuple[str, str, str]]:
    """The events of a stream, by the rules of the WHATWG: name, data, last id."""
    name, data, last = "", "", ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif field == "id":
            last = value
        elif not line and name:
            yield name, data, last
            name = data = ""


def test_event_stream_has_states_log_and_progress_until_the_task_has_ended(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    with idle_client.stream("GET", f"/tasks/{task}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        received = events(answer)
        assert next(received)[::2] == ("state", "1-0")
        play(idle_service, task, "begin")
        assert [next(received)[::2] for _ in range(2)] == [("log", "1-1"), ("state", "2-1")]
        assert next(received)[0] == "progress"
        play(idle_service, task, "report")
        name, data, last = next(received)
        assert (name, last) == ("progress", "2-1")
        assert '"rows":2' in data
        play(idle_service, task, "finish")
        rest = [event for event in received if event[0] != "progress"]
    assert [event[::2] for event in rest] == [("log", "2-2"), ("log", "2-3"), ("state", "3-3"), ("end", "3-3")]
    assert '"code":"DONE"' in rest[-1][1]


def test_event_stream_continues_after_the_last_event_id(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    play(idle_service, task, "begin", "fail")

    def events_after(last: str) -> list[tuple[str, str]]:
        with idle_client.stream("GET", f"/tasks/{task}/events", headers={"Last-Event-ID": last}) as answer:
            return [event[::2] for event in events(answer)]

    everything = events_after("")
    assert everything == [
        ("log", "0-1"), ("log", "0-2"), ("log", "0-3"), ("state", "3-3"), ("end", "3-3"),
    ]  # fmt: skip
    assert events_after("2-1") == [("log", "2-2"), ("log", "2-3"), ("state", "3-3"), ("end", "3-3")]
    assert events_after("2-3") == [("state", "3-3"), ("end", "3-3")]
    assert events_after("3-3") == [("end", "3-3")]
    assert events_after("nonsense") == everything


def test_hundreds_of_waiting_requests_need_few_connections_to_the_database_and_leave_no_waiter(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    polls, streams = 200, 50
    connections = "select count(*) from pg_stat_activity where application_name like 'longshore%'"
    (api,) = (process for process in psutil.Process(idle_service.processes[0].pid).children())
    threads = api.num_threads()

    async def wait() -> tuple[int, int, list[str]]:
        limits = httpx2.Limits(max_connections=None)
        headers = dict(idle_client.headers)
        async with httpx2.AsyncClient(
            base_url=idle_service.address, headers=headers, timeout=60, limits=limits
        ) as client:

            async def poll() -> str:
                known = {"If-None-Match": f'"{task}-1"'}  # one that is heard late has missed nothing
                answer = await client.get(f"/tasks/{task}", params={"wait": 60}, headers=known)
                return str(answer.json()["state"]["code"])

            async def listen() -> str:
                async with client.stream("GET", f"/tasks/{task}/events") as answer:
                    async for line in answer.aiter_lines():
                        if "INPROGRESS" in line and "data" in line:
                            return "INPROGRESS"
                return ""

            waiters = [asyncio.create_task(each()) for each in [poll] * polls + [listen] * streams]
            while len(api.net_connections("tcp")) < polls + streams:  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            used = (await asyncio.to_thread(idle_service.sql, connections))[0]["count"]
            grown = api.num_threads() - threads
            await asyncio.to_thread(play, idle_service, task, "begin")
            return used, grown, await asyncio.wait_for(asyncio.gather(*waiters), 40)

    used, grown, received = asyncio.run(wait())
    assert used <= 16, "the pools and the listeners"
    assert grown <= 4
    assert set(received) == {"INPROGRESS"}
    wait_for_no_waiter(idle_service)


def wait_for_no_waiter(idle_service: Longshore) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    while "longshore_waiters 0.0" not in httpx2.get(f"{idle_service.address}/metrics").text:
        assert time.monotonic() < deadline, "a client that has gone is still waited for"
        time.sleep(0.05)


def test_disconnected_clients_leave_no_waiter(idle_client: httpx2.Client, idle_service: Longshore, task: int) -> None:
    for path in (f"/tasks/{task}?wait=60", f"/tasks/{task}/events"):
        with (
            httpx2.Client(base_url=idle_service.address, headers=idle_client.headers, timeout=0.5) as client,
            pytest.raises(httpx2.ReadTimeout),
            client.stream("GET", path) as answer,
        ):
            list(answer.iter_lines())
    wait_for_no_waiter(idle_service)


def test_progress_has_the_place_in_the_queue_and_the_next_step(
    idle_client: httpx2.Client, idle_service: Longshore, task: int
) -> None:
    second = idle_client.post("/tasks", json=export_body()).json()["id"]
    first, behind = (idle_client.get(f"/tasks/{id}/progress").json() for id in (task, second))
    assert first["queue_place"] >= 1
    assert behind["queue_place"] == first["queue_place"] + 1
    assert first["next"] == {"step": "start", "at": None, "if_silent": False}
    later = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    assert idle_client.get(f"/tasks/{later}/progress").json()["next"] == {
        "step": "start", "at": "2126-05-26T12:00:00Z", "if_silent": False,
    }  # fmt: skip
    play(idle_service, task, "begin")
    running = idle_client.get(f"/tasks/{task}/progress").json()
    assert running["heartbeat_age"] < MAX_SECONDS
    assert (running["next"]["step"], running["next"]["if_silent"]) == ("retry", True)
    left = datetime.fromisoformat(running["next"]["at"]) - datetime.now(UTC)
    assert left.total_seconds() <= 16
    idle_service.sql("update longshore.runs set failures = 2 where task_id = $1", task)
    assert idle_client.get(f"/tasks/{task}/progress").json()["next"]["step"] == "give up"
    play(idle_service, task, "finish")
    done = idle_client.get(f"/tasks/{task}/progress").json()
    assert (done["next"], done["queue_place"], done["heartbeat_age"]) == (None, None, None)


def test_an_api_with_waiters_and_streams_stops_on_request(new_service: Any) -> None:
    service: Longshore = new_service()
    api = service.start_api()
    with service.client() as client, ThreadPoolExecutor() as pool:
        task = client.post("/tasks", json=export_body()).json()["id"]
        poll = pool.submit(client.get, f"/tasks/{task}", params={"wait": 60})
        execute = pool.submit(client.post, f"/tasks/{task}/execute")
        with client.stream("GET", f"/tasks/{task}/events") as answer:
            received = answer.iter_lines()
            next(received)
            while len(service.sql("select from longshore.tasks where attempt > 1")) < 1:
                time.sleep(0.05)
            time.sleep(0.2)
            began = time.monotonic()
            api.terminate()
            assert list(received), "the stream ends in good order"
        assert poll.result().json()["state"]["code"] == "READY"
        problem(execute.result(), "stopping")
        assert api.wait(20) == 0
        assert time.monotonic() - began < 9, "it was killed, as streams held it"
