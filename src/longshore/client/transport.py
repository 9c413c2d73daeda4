"""Transports: perform the steps of operations, blocking (httpx2.Client) or on asyncio (httpx2.AsyncClient).

`operation` turns a generator of steps into a method. The method returns the result on a blocking object and a coroutine
of the result on an awaiting one; the type checker knows which.
"""

import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import msgspec

from longshore.client.errors import NoAnswerError
from longshore.client.steps import Answer, Call, Close, LostError, NotSentError, Pause, Read, Request, Step, Steps

if TYPE_CHECKING:
    import httpx2

P = ParamSpec("P")
T = TypeVar("T")

ENCODER = msgspec.json.Encoder(decimal_format="number")
CHUNK_BYTES = 1 << 20  # of a download that are read at once


class Blocking:
    """Marker of the classes of a blocking client."""


class Awaiting:
    """Marker of the classes of an awaited client."""


M_co = TypeVar("M_co", covariant=True)


class Operates(Generic[M_co]):
    """An object with operations. `M_co`: Blocking, Awaiting, or a subclass of one of them."""

    _transport: Any


class operation(Generic[P, T]):  # noqa: N801  # a decorator, used as `property` is
    """A method of both clients, written once as a generator of steps."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Callable[..., Steps[T]]: ...
    @overload
    def __get__(self, owner: Operates[Blocking], kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Operates[Awaiting], kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: Any, kind: type) -> Callable[..., Any]:
        """Return the method on an object; on a class the generator function, for `yield from`."""
        if owner is None:
            return self.steps
        bound = functools.partial(self.steps, owner)

        @functools.wraps(self.steps)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return owner._transport.perform(bound(*args, **kwargs))

        return method


class Transport:
    """The address of a service, with the token and the chain that requests to it carry."""

    def __init__(self, address: str, token: str, chain: int, timeout: float) -> None:
        self.address = address.rstrip("/")
        self.timeout = timeout
        self._credentials = {"Authorization": f"Bearer {token}", "X-Session-Chain-Id": str(chain)}

    def arguments(self, request: Request) -> dict[str, Any]:
        """Return the arguments of httpx2's `build_request`.

        Every request to the service has the token and names the chain; a store of results gets neither.
        """
        import httpx2

        own = request.url.startswith("/")
        headers = {"Accept-Encoding": "identity", **request.headers}
        content = None
        if own:
            headers |= self._credentials
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = ENCODER.encode(request.body)
        return {
            "method": request.method,
            "url": self.address + request.url if own else request.url,
            "params": request.params or None,
            "headers": headers,
            "content": content,
            "timeout": httpx2.Timeout(self.timeout, read=self.timeout + (request.timeout or 0)),
        }


def _failed(error: Exception) -> NoAnswerError:
    import httpx2

    reason = str(error) or type(error).__name__
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)):
        return NotSentError(f"cannot connect: {reason}")
    return LostError(f"the connection was lost: {reason}")


def _answer(response: "httpx2.Response", body: bytes) -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


class BlockingTransport(Transport):
    """A transport that blocks."""

    def __init__(self, address: str, token: str, chain: int, timeout: float) -> None:
        super().__init__(address, token, chain, timeout)
        import httpx2

        self.http = httpx2.Client()

    def perform(self, steps: Steps[T]) -> T:
        """Perform an operation and return its result."""
        streams = _BlockingStreams(self)
        try:
            outcome: Any = None
            step = next(steps)
            while True:
                try:
                    outcome = self._step(step, streams)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            streams.close()

    def _step(self, step: Step, streams: "_BlockingStreams") -> Any:
        match step:
            case Request():
                return streams.send(step)
            case Read():
                return streams.read()
            case Close():
                return streams.close()
            case Pause():
                return time.sleep(step.seconds)
            case Call():
                return step.function()


class _BlockingStreams:
    """The streamed answer of one operation."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def send(self, request: Request) -> Answer:
        import httpx2

        self.close()
        try:
            built = self._transport.http.build_request(**self._transport.arguments(request))
            response = self._transport.http.send(built, stream=True)
            if request.stream and response.status_code < 300:
                self._response, self._chunks = response, response.iter_raw(CHUNK_BYTES)
                return _answer(response, b"")
            try:
                return _answer(response, response.read())
            finally:
                response.close()
        except httpx2.TransportError as error:
            raise _failed(error) from None
        except (httpx2.InvalidURL, httpx2.RequestError) as error:
            raise NoAnswerError(str(error)) from None

    def read(self) -> bytes:
        import httpx2

        try:
            return next(self._chunks, b"")
        except httpx2.TransportError as error:
            raise _failed(error) from None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class AsyncTransport(Transport):
    """A transport on asyncio."""

    def __init__(self, address: str, token: str, chain: int, timeout: float) -> None:
        super().__init__(address, token, chain, timeout)
        import httpx2

        self.http = httpx2.AsyncClient()

    async def perform(self, steps: Steps[T]) -> T:
        """Perform an operation and return its result."""
        streams = _AwaitingStreams(self)
        try:
            outcome: Any = None
            step = next(steps)
            while True:
                try:
                    outcome = await self._step(step, streams)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            await streams.close()

    async def _step(self, step: Step, streams: "_AwaitingStreams") -> Any:
        import asyncio

        match step:
            case Request():
                return await streams.send(step)
            case Read():
                return await streams.read()
            case Close():
                return await streams.close()
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Call():
                return await asyncio.to_thread(step.function)  # a blocking call must not hold the event loop


class _AwaitingStreams:
    """The streamed answer of one operation."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._response: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def send(self, request: Request) -> Answer:
        import httpx2

        await self.close()
        try:
            built = self._transport.http.build_request(**self._transport.arguments(request))
            response = await self._transport.http.send(built, stream=True)
            if request.stream and response.status_code < 300:
                self._response, self._chunks = response, response.aiter_raw(CHUNK_BYTES)
                return _answer(response, b"")
            try:
                return _answer(response, await response.aread())
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            raise _failed(error) from None
        except (httpx2.InvalidURL, httpx2.RequestError) as error:
            raise NoAnswerError(str(error)) from None

    async def read(self) -> bytes:
        import httpx2

        assert self._chunks is not None
        try:
            return await anext(self._chunks, b"")
        except httpx2.TransportError as error:
            raise _failed(error) from None

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
