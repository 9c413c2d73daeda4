"""The test of a destination as steps, each of which tries one thing that a delivery does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from longshore.destinations.kind import DestinationError, DestinationUnavailableError, Step

CLEANUP_SECONDS = 5.0  # in which a test removes what it wrote; a server that hangs keeps it


async def run_steps(steps: Mapping[str, Callable[[], Awaitable[object]]]) -> AsyncIterator[Step]:
    """Take the named steps of a test in their order and yield each, up to the first that fails.

    A text that a step returns is its detail: what to know though it works.
    """
    for name, take in steps.items():
        try:
            found = await take()
        except (DestinationError, DestinationUnavailableError) as error:
            yield Step(name, ok=False, detail=str(error))
            return
        yield Step(name, ok=True, detail=found if isinstance(found, str) else "")
