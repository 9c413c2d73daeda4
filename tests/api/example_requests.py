"""Every operation of the API, asked in turn with the example of its body, as a reader of the document would ask.

`answers` gives what a real service said to each.
"""

import uuid
from typing import Any

import httpx2
import pyotp

from longshore.access.tokens import Level
from tests.access.users import headers_of, new_user
from tests.receiver import Receiver
from tests.service import CHAIN, Longshore, ended

LOCAL = {"kind": "memory", "settings": {"shelf": "top"}, "secret": {"password": "the right one"}}
PAST = "2026-05-26T03:00:00+02:00"


class Examples:
    """Sends requests by the ids of operations; `answers` has the JSON of the last answer to each."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.document = client.get("/openapi.json").json()
        self.answers: dict[str, Any] = {}
        self.operations = {
            operation["operationId"]: (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def body(self, name: str) -> Any:
        """The example of an operation's body."""
        _, _, operation = self.operations[name]
        return operation["requestBody"]["content"]["application/json"]["example"]

    def ask(self, operation_id: str, /, *, change: Any = None, headers: Any = None, **ids: Any) -> Any:
        """Send a request. `change`: keys of the body that the machine of a test needs to have otherwise."""
        method, path, operation = self.operations[operation_id]
        body = {**self.body(operation_id), **(change or {})} if "requestBody" in operation else None
        address = f"{str(self.client.base_url).rstrip('/')}{path.format(**ids)}"
        # The headers of a session take the place of the token.
        send = self.client.request if headers is None else httpx2.request
        answer = send(method, address, json=body, headers=headers, timeout=60)
        expected = min(operation["responses"])
        assert str(answer.status_code) == expected, (operation_id, body, answer.text)
        is_json = answer.content and answer.headers.get("content-type") == "application/json"
        self.answers[operation_id] = answer.json() if is_json else answer.text
        return self.answers[operation_id]


def answers(service: Longshore, receiver: Receiver) -> Examples:
    """Ask everything once."""
    with service.client(Level.ADMIN) as client:
        examples = Examples(client)
        tasks(examples, receiver)
        for part in (schedules, runs, segments, destinations, clients, the_rest):
            part(examples)
        sharing(examples)
        people(examples, service)
        return examples


def tasks(examples: Examples, receiver: Receiver) -> None:
    ask = examples.ask
    hook = ask("createWebhook", change={"url": receiver.url})["id"]  # it hears of what follows
    task = ask("createTask")["id"]
    ended(examples.client, task)
    ask("getTask", id=task)
    ask("listTasks")
    ask("getTaskProgress", id=task)
    ask("listRuns", id=task)
    ask("getRun", id=task, run=1)
    ask("getManifest", id=task, run=1)
    ask("getManifestSignature", id=task, run="latest")
    ask("getDownloadUrl", id=task)
    ask("getRunDownloadUrl", id=task, run=1)
    link = ask("listDownloadLinks", id=task)[0]["id"]
    ask("revokeDownloadLink", id=task, link=link)
    receiver.next()
    delivery = ask("listWebhookDeliveries", id=hook)[0]["id"]
    ask("redeliverWebhookDelivery", id=hook, delivery=delivery)
    ask("rotateWebhookSecret", id=hook)
    ask("enableWebhook", id=hook)
    ask("listWebhooks")
    ask("deleteWebhook", id=hook)
    ask("changeTask", id=task)
    ask("cancelTask", id=task)
    ask("deleteTask", id=task)
    ask("previewTrigger")


def schedules(examples: Examples) -> None:
    task = examples.ask(
        "createTask", change={"trigger": {"once": PAST, "repeat": "daily", "timezone": "Europe/Amsterdam"}}
    )["id"]
    ended(examples.client, task)
    examples.ask("executeTask", id=task)
    examples.ask("pauseTask", id=task)
    examples.ask("resumeTask", id=task)
    backfill = examples.ask("createBackfill", id=task)["id"]
    examples.ask("listBackfills", id=task)
    examples.ask("endBackfill", id=task, backfill=backfill)
    examples.client.post(f"/tasks/{task}/cancel")


def runs(examples: Examples) -> None:
    ask = examples.ask
    name = ask("createDestination", change={"name": f"x{uuid.uuid4().hex}", **LOCAL})["name"]
    target = examples.body("createTask")["target"]
    delivered = {**target, "deliver": [{"destination": name}], "incremental": "on_ack"}
    task = ask("createTask", change={"target": delivered})["id"]
    ended(examples.client, task)
    ask("listRunDeliveries", id=task, run=1)
    ask("acknowledgeRun", id=task, run=1)
    ask("deliverRun", id=task, run=1)
    files = ask("createTask", change={"target": {**target, "split": {"rows": 5000}}})["id"]
    ended(examples.client, files)
    ask("listRunFiles", id=files, run=1)


def segments(examples: Examples) -> None:
    segment = examples.ask("createSegment")["id"]
    examples.ask("listSegments")
    examples.ask("getSegment", id=segment)
    examples.ask("replaceSegment", id=segment)
    examples.ask("deleteSegment", id=segment)
    examples.ask("previewSegment")


def destinations(examples: Examples) -> None:
    ask = examples.ask
    destination = ask("createDestination", change={"name": f"x{uuid.uuid4().hex}", **LOCAL})["id"]
    ask("listDestinations")
    ask("getDestination", id=destination)
    ask("testDestination", id=destination)
    ask("testNewDestination", change=LOCAL)
    ask("changeDestination", id=destination, change={key: LOCAL[key] for key in ("settings", "secret")})
    ask("deleteDestination", id=destination)
    ask("listDestinationKinds")


def clients(examples: Examples) -> None:
    ask = examples.ask
    client = ask("createServiceClient", change={"name": f"x {uuid.uuid4()}"})["id"]
    ask("listServiceClients")
    ask("getServiceClient", id=client)
    token = ask("createAccessToken", change={"client_id": client})["id"]
    ask("listAccessTokens")
    ask("getAccessToken", id=token)
    ask("revokeAccessToken", id=token)
    ask("changeServiceClient", id=client)


def sharing(examples: Examples) -> None:
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "parquet"}
    name = f"ledger_{uuid.uuid4().hex}"
    task = examples.ask("createTask", change={"target": {**target, "share_as": name}})["id"]
    ended(examples.client, task)
    examples.ask("listShares")
    share = {"share": CHAIN}
    examples.ask("getShare", **share)
    examples.ask("listSchemas", **share)
    examples.ask("listAllTables", **share)
    examples.ask("listTables", **share, schema="exports")
    for name_of_operation in ("getTable", "getTableVersion", "getTableMetadata", "queryTable"):
        examples.ask(name_of_operation, **share, schema="exports", table=name)


def people(examples: Examples, service: Longshore) -> None:
    ask = examples.ask
    user = ask("createUser", change={"username": f"anna-{uuid.uuid4().hex}"})["id"]
    ask("listUsers")
    ask("changeUser", id=user)
    ask("removeUser", id=user)
    user, other = new_user(service, _1764=Level.READ), new_user(service, totp=True, _1764=Level.READ)
    opened = ask("login", change={"username": user.name})
    attempt = other.sign_in().json()["attempt_id"]
    ask("openSession", change={"attempt_id": attempt, "passcode": pyotp.TOTP(str(other.totp)).now()})
    session = headers_of(opened, CHAIN)
    further = user.session()
    ask("listSessions", headers=session)
    ask("createProfile", headers=further)
    ask("getProfile")
    made = ask("listProfiles", headers=further)[0]
    ask("revokeProfile", headers=further, id=made["id"])
    ask("endSession", headers=session, id=examples.answers["listSessions"][0]["id"])
    ask("logout", headers=session)
    ask("changePassword", headers=user.session())


def the_rest(examples: Examples) -> None:
    for name in ("listIndexes", "listAuditEntries", "getSigningKeys", "getHealth", "getReadiness", "getCredential"):
        examples.ask(name)
    examples.ask("getIndex", name="wallet-ledger")
