"""The charts of the page *System* with their table, and errors as pages."""

import re
from collections.abc import Iterator

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.access.users import new_user
from tests.service import CHAIN, Longshore, ended, export_body

CHARTS = {
    "Runs": ("Done", "Failed"),
    "Rows": ("Rows",),
    "Bytes written": ("Written",),
    "Longest run": ("Longest",),
    "Longest wait for a worker": ("Longest wait",),
    "Time of workers": ("Time of workers",),
    "Stored results, by the day of their run": ("Still stored",),
}
"""The charts, and the columns of the table that have their figures."""


@pytest.fixture
def reader(service: Longshore) -> Iterator[httpx2.Client]:
    """A client with the session of a user who only reads."""
    with new_user(service, _1764=Level.READ).client() as client:
        yield client


def test_each_chart_of_the_system_says_its_figures_and_has_them_in_the_table(
    client: httpx2.Client, reader: httpx2.Client
) -> None:
    ended(client, client.post("/tasks", json=export_body()).json()["id"])
    text = reader.get(f"/console/{CHAIN}/system", params={"zone": "UTC"}).text
    table = text.partition("The figures as a table")[2]
    heads = re.findall(r"<th scope=\"col\">([^<]+)</th>", table)
    newest = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.S)[0]
    cells = dict(re.findall(r"<td data-label=\"([^\"]+)\">([^<]*)</td>", newest))
    assert len(re.findall(r"<th scope=\"row\">", table)) == 14
    figures = re.findall(r"<figure.*?</figure>", text, re.S)
    assert len(figures) == len(CHARTS)
    for figure in figures:
        title = re.findall(r"<figcaption>(.*?)</figcaption>", figure)[0]
        columns = CHARTS[title]
        label = re.findall(r"<svg role=\"img\" aria-label=\"(.*?)\"", figure)[0]
        assert label.startswith(f"{title} from ")
        assert label.endswith("; the table below has the figures")
        assert set(columns) <= set(heads)
        bars = re.findall(r"<rect .*?height=\"([\d.]+)\"><title>(.*?)</title>", figure)
        values = [cells[column] for column in columns]
        if title not in ("Runs", "Longest wait for a worker"):
            assert bars, title
            assert bars[-1][1].endswith(f": {values[0]}")
        assert all(0 < float(height) <= 100 for height, _ in bars)
    done, failed = cells["Done"], cells["Failed"]
    assert f": {done} done, {failed} failed</title>" in figures[0]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("tasks/999999999", 404, "This chain has no task of that number"),
        ("tasks/999999999/runs/1", 404, "task"),
        ("nothing", 404, "To the tasks of chain 1764"),
        ("audit", 403, "Your level for this chain does not include this page."),
        ("new", 403, "Your level for this chain does not include this page."),
        ("tasks?offset=-1", 400, "offset"),
    ],
)
def test_error_of_a_page_is_a_page(reader: httpx2.Client, path: str, status: int, words: str) -> None:
    answer = reader.get(f"/console/{CHAIN}/{path}")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, "text/html")
    assert words in answer.text
    assert f'href="/console/{CHAIN}/tasks"' in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_fault_of_the_service_is_a_page_with_the_request_and_nothing_of_the_cause(
    service: Longshore, reader: httpx2.Client
) -> None:
    service.sql("alter table longshore.segments rename to segments_away")
    try:
        answer = reader.get(f"/console/{CHAIN}/segments")
    finally:
        service.sql("alter table longshore.segments_away rename to segments")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (500, "text/html")
    assert answer.headers["x-request-id"] in answer.text
    assert "longshore.segments" not in answer.text
    assert reader.get(f"/console/{CHAIN}/segments").status_code == 200


def test_page_of_another_chain_says_that_there_is_no_level_for_it(reader: httpx2.Client) -> None:
    answer = reader.get("/console/77/tasks")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (403, "text/html")
    assert "<h1>" in answer.text


def test_form_of_an_ended_session_leads_back_to_the_page_that_sent_it(service: Longshore) -> None:
    def back(referer: str | None, form: str = "tasks/5/pause") -> str:
        headers = {} if referer is None else {"Referer": referer}
        answer = httpx2.post(f"{service.address}/console/{CHAIN}/{form}", headers=headers)
        assert answer.status_code == 303
        path, _, query = answer.headers["location"].partition("?")
        assert path == "/sign-in"
        return httpx2.QueryParams(query)["next"]

    ours, tasks = f"{service.address}/console/{CHAIN}", f"/console/{CHAIN}/tasks"
    assert back(f"{ours}/tasks/5") == f"{tasks}/5"
    assert back(f"{ours}/tasks?status=DONE&offset=50", "tasks/selected") == f"{tasks}?status=DONE&offset=50"
    assert back(f"{ours}/access/clients", "access/tokens") == tasks  # the address of a form, which answers no GET
    for other in (
        None,
        "",
        "https://example.com/",
        f"{service.address}.example.com/console/{CHAIN}/tasks/5",
        "http://[",
    ):
        assert back(other) == tasks
