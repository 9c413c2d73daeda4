"""A table whose files many workers write: each file has its own statistics, in the order of the manifest."""

import io
import json
from collections.abc import Callable

import httpx2
import pyarrow.parquet as pq

from longshore.access.tokens import Level
from tests.service import Longshore
from tests.sharing.conftest import Reader, new_name, shared, table_body


def test_files_of_a_table_that_shards_write_have_the_statistics_of_their_own_rows(
    new_service: Callable[..., Longshore],
) -> None:
    service = new_service(2_000, shard_rows="500")
    service.start("worker")
    service.start_api()
    with service.client() as client, service.client(Level.READ) as reading:
        keys = [{"field": "kind"}]
        _, name = shared(client, table_body(new_name(), fields=["id"], partition_by=keys, split={"rows": 150}))
        assert sum(line["event"] == "shard done" for line in service.logged()) > 1
        files = Reader(reading).query(name).files
    assert len(files) > 8
    for file in files:
        ids = pq.read_table(io.BytesIO(httpx2.get(file["url"]).content)).column("id").to_pylist()
        stats = json.loads(file["stats"])
        assert stats["numRecords"] == len(ids)
        assert (stats["minValues"]["id"], stats["maxValues"]["id"]) == (min(ids), max(ids))
