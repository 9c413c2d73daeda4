"""The parent of the operations on a task."""

from typing import Self

from longshore.client.asynchronous.resource import AsyncResource
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.model import State, TaskData


class AsyncTaskResource(AsyncResource):
    """A task of the service."""

    def __init__(self, transport: AsyncTransport, data: TaskData) -> None:
        super().__init__(transport, f"/tasks/{data.id}")
        self._delivering: int | None = None  # the run that `deliver` was called for and `wait` waits for
        self.data = data
        """The task object of the service's last answer."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.code} of {self._transport.connection!r}>"

    @property
    def id(self) -> int:
        """Number of the task."""
        return self.data.id

    @property
    def state(self) -> State:
        """State of the task in the service's last answer."""
        return self.data.state

    @property
    def result(self) -> str:
        """Name of the result file; empty while there is none."""
        return self.data.result

    def _refreshed(self, data: TaskData) -> Self:
        self.data = data
        return self
