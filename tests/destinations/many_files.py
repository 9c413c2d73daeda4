"""A delivery of a result with many files, which has ended."""

from datetime import UTC, datetime
from typing import cast

from longshore.exports.manifest import FileEntry, FilesManifest
from longshore.results.store import Store
from longshore.tasks.deliveries import DeliveryAttempt
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import DeliveryMessage

NO_STORE = cast(Store, None)
"""In place of a store that nothing is read from."""
NOW = datetime(2026, 5, 27, tzinfo=UTC)


def delivery_of_files(count: int) -> DeliveryAttempt:
    """The delivery 1 of run 1 of task 12, with files `0.csv` and so on, one worker of which was lost."""
    files = [FileEntry(f"{number}.csv", "orders", {}, 1, 1, "00" * 32) for number in range(count)]
    manifest = FilesManifest(
        rows=count, size=count, chain=1764, task=12, run=1, due=None, interval=Interval(None, NOW), format="csv",
        snapshot=NOW, previous=None, indexes=[], files=files,
    )  # fmt: skip
    return DeliveryAttempt(
        message=DeliveryMessage(TaskId(12), 1, 1, 1), chain=ChainId(1764), destination="shop", place="{name}",
        entry="{}", lost_workers=1, seconds_left=60.0, later_run=None, result="orders.manifest.json",
        location="12/1/orders.manifest.json", manifest=manifest.encoded().decode(), signature=None, column_types=None,
        watermark_from_hash=None, watermark_to_hash=None,
    )  # fmt: skip
