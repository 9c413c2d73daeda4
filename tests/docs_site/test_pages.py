"""The pages as the repository's host shows them: links lead somewhere, and the tables name all that there is."""

import json
import re
from pathlib import Path

from longshore.access import passwords, profile_tokens
from longshore.api.openapi import document
from longshore.exports.target import deliver
from longshore.settings import Settings
from longshore.sharing import profile
from longshore.tasks import backfills
from longshore.tasks.model import Progress
from longshore.web import build

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = DOCS / "reference" / "http"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(DOCS / "adr").glob("*.md"), *(DOCS / "reference").glob("*.md")]
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that the repository's host makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: str, head: str) -> str:
    """The rows of the table of a page that begins with the cells `head`."""
    return (DOCS / page).read_text(encoding="utf-8").split(f"| {head} |\n", 1)[1].split("\n\n", 1)[0]


def test_every_link_leads_to_a_file_of_the_repository_and_to_a_heading_of_it() -> None:
    broken = []
    for page in PAGES:
        for link in LINK.findall(prose(page)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or GENERATED in target.parents:
                broken.append(f"{page.relative_to(ROOT)}: {link}")
            elif anchor and anchor not in anchors(target):
                broken.append(f"{page.relative_to(ROOT)}: {link} (no such heading)")
    assert broken == []


def test_list_of_pages_in_the_readme_names_every_page() -> None:
    listed = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Documentation\n")[2]
    named = set(re.findall(r"\(docs/([\w/-]+\.md)\)", listed))
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md", "changelog.md"}
    assert pages - named == set()


def test_page_on_the_api_names_every_request_that_takes_an_idempotency_key() -> None:
    taking = {
        f"{method.upper()} {path}"
        for path, methods in document(build(Settings()))["paths"].items()
        for method, operation in methods.items()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    rows = table("api.md", "request | answer to a repeated request")
    assert set(re.findall(r"^\| `(\w+ /\S+)` \|", rows, re.M)) == taking


def test_page_on_waiting_names_every_step_and_field_of_the_progress() -> None:
    rows = table("waiting.md", "field | meaning")
    fields = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", rows, re.M))))
    assert fields == set(Progress.__struct_fields__)
    assert [step for step in ("start", "retry", "give up", "deliver") if f"`{step}`" not in rows] == []


def test_task_and_segment_that_the_pages_print_are_the_examples_of_the_api() -> None:
    paths = document(build(Settings()))["paths"]
    task = paths["/tasks/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    segment = paths["/segments"]["post"]["requestBody"]["content"]["application/json"]["example"]
    for page, example in (("api.md", task), ("exports.md", segment)):
        (printed,) = re.findall(r"^```json\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
        assert json.loads(printed) == example, page


def test_table_of_limits_has_those_of_the_code() -> None:
    rows = table("api.md", "what | limit | answer beyond it")
    template, path = deliver.MAX_TEMPLATE_CHARACTERS, deliver.MAX_PATH_BYTES
    for row in (
        f"| entries of `deliver` | {deliver.MAX_ENTRIES} |",
        f"a path that it makes | {template} characters; {path:,} bytes |",
        f"| password of a user | {passwords.MIN_LENGTH} to {passwords.MAX_LENGTH:,} characters |",
        f"their `expires_in` | {profile_tokens.MAX_LIVE} that are valid; 1 minute to {profile.MAX_DAYS} days |",
        f"| runs of a backfill | {backfills.MAX_RUNS:,} |",
    ):
        assert row in rows
