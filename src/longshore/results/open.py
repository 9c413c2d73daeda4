"""Opening the store that the settings name."""

from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.store import Store
from longshore.settings import Settings

RESULTS = "results"
"""The folder of the local store, below that of the data."""


def open_store(settings: Settings) -> Store:
    """Return the store for results. Raises StoreError if the environment does not fit `results_url`."""
    return BucketStore(settings.results_url) if settings.results_url else LocalStore(settings.data / RESULTS)
