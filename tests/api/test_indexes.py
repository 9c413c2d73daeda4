"""The resource `indexes`."""

import httpx2

from longshore.access.tokens import Level
from longshore.exports import catalog
from longshore.exports.catalog import fingerprint, shape
from tests.api.test_segments import problem
from tests.service import Longshore, export_body


def test_the_indexes_are_listed_with_fields_and_types(service: Longshore) -> None:
    with service.client(Level.READ) as client:
        found = client.get("/indexes").json()
        known = catalog.load()
        assert [one["name"] for one in found] == list(known)
        for one in found:
            index = known[one["name"]]
            assert list(one) == ["name", "description", "time", "key", "schema", "fields"]
            assert one["key"] == index.key_fields
            assert [(f["name"], f["type"], f["description"]) for f in one["fields"]] == [
                (name, field.type, field.description) for name, field in index.fields.items()
            ]
            assert one["schema"] == fingerprint(shape(index.fields.items()))
            assert client.get(f"/indexes/{one['name']}").json() == one
        transactions = found[0]
        assert transactions["time"] == "timestamp"
        nested = [field for field in transactions["fields"] if "fields" in field]
        assert [field["name"] for field in nested] == ["items"]
        assert nested[0]["fields"][0] == {
            "name": "sku",
            "type": "keyword",
            "description": "The retailer's code of the product; leading zeros matter.",
        }


def test_an_unknown_index_is_a_problem_that_suggests_the_right_one(service: Longshore) -> None:
    with service.client(Level.READ) as client:
        found = problem(client.get("/indexes/wallet-leger"), 404, "index-not-found")
        assert 'did you mean "wallet-ledger"?' in found["detail"]
        problem(client.get("/indexes/' or 1=1"), 404, "index-not-found")
        assert client.get("/indexes", params={"x": 1}).status_code == 400


def test_the_schema_of_an_index_is_what_an_export_of_all_fields_may_pin(service: Longshore) -> None:
    with service.client() as client:
        schema = client.get("/indexes/wallet-ledger").json()["schema"]
        body = export_body()
        body["target"]["schema"] = schema
        assert client.post("/tasks", json=body).status_code == 201
        body["target"]["schema"] = schema[::-1]
        assert client.post("/tasks", json=body).status_code == 400


def test_the_document_describes_the_new_endpoints_and_their_bodies(service: Longshore) -> None:
    document = httpx2.get(f"{service.address}/openapi.json").json()
    paths = document["paths"]
    assert set(paths["/segments"]) == {"get", "post"}
    assert set(paths["/segments/{id}"]) == {"get", "put", "delete"}
    assert {"/segments/preview", "/indexes", "/indexes/{name}"} <= set(paths)
    schemas = document["components"]["schemas"]
    for method, path, name in (
        ("post", "/tasks", "NewTaskBody"),
        ("post", "/segments", "SegmentBody"),
        ("put", "/segments/{id}", "SegmentBody"),
        ("post", "/segments/preview", "PreviewBody"),
    ):
        body = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": f"#/components/schemas/{name}"}
        assert schemas[name]["properties"]
    assert "segment_id" in schemas["Trigger"]["properties"]
