"""What operators do to a running engine: pause it, put it to sleep, empty its caches. Knows no HTTP and no text.

Requests that come while it is paused, or asleep with mode "keep", are held here in order of their arrival and sent
when it runs again. Asleep in any other mode it takes none: who is freed of its work is not to be given more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from kvik.errors import EngineDeadError, InvalidRequestError, OverloadedError
from kvik.messages import NewRequest
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.engine_client.core_client import AsyncCoreClient

logger = get_logger(__name__)

QuietMode = Literal["abort", "wait", "keep"]
"""What becomes of requests that run: ended with finish reason "abort", waited for, or kept for later."""


class EngineControl:
    """One per engine client, which tells it of requests as they come and end."""

    def __init__(
        self,
        client: AsyncCoreClient,
        abort_all: Callable[[], object],
        on_sleep: Callable[[int | None], object] = lambda level: None,
        *,
        send: Callable[[NewRequest], None] | None = None,
        may_sleep: bool = False,
        device: str = "cpu",
    ) -> None:
        """`on_sleep` hears of each new level of sleep, None being awake. `send` takes requests to the engine; None: as
        `client` does. `device`: the engine's."""
        self._client = client
        self._send_request = send or client.send
        self._abort_all = abort_all
        self._on_sleep = on_sleep
        self._may_sleep = may_sleep
        self._device = device
        self._level: int | None = None
        self._is_paused = False
        self._refuses = False
        """Asleep, or about to be, in a mode that takes no requests."""
        self._turn = asyncio.Lock()
        """Transitions happen one after the other."""
        self._open: set[str] = set()
        self._held: dict[str, list[NewRequest]] = {}
        self._awaited: set[str] = set()
        self._all_ended = asyncio.Event()

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    @property
    def may_compute(self) -> bool:
        """The engine is neither at rest nor on its way there or back."""
        return not self._is_closed and not self._turn.locked()

    @property
    def level(self) -> int | None:
        """Of sleep; None while awake."""
        return self._level

    # --- requests, as the engine client has them ----------------------------------------------------

    def check_open(self) -> None:
        """Raises `OverloadedError` while no request is taken."""
        if self._refuses:
            raise OverloadedError("the engine sleeps and takes no requests; POST /wake_up wakes it, then try again")

    def send(self, internal_id: str, requests: list[NewRequest]) -> None:
        """Send a request's sequences to the engine, now or when it runs again. Raises `EngineDeadError`."""
        self._open.add(internal_id)
        if self._is_closed:
            self._held[internal_id] = requests
            return
        for request in requests:
            self._send_request(request)

    def take_back(self, open_requests: Iterable[tuple[str, list[NewRequest]]]) -> list[NewRequest]:
        """A new engine knows none of these: hold them where it rests, else return them to be sent."""
        if not self._is_closed:
            return [request for _, requests in open_requests for request in requests]
        self._held.update(open_requests)
        return []

    def ended(self, internal_id: str) -> None:
        """The request is over, wherever it was; unknown ids are ignored."""
        self._open.discard(internal_id)
        self._held.pop(internal_id, None)
        self._awaited.discard(internal_id)
        if not self._awaited:
            self._all_ended.set()

    # --- transitions --------------------------------------------------------------------------------

    async def pause(self, mode: QuietMode = "abort", clear_cache: bool = True) -> None:
        """Compute nothing until `resume`. `clear_cache`: forget all prefixes; what is kept is computed again."""
        async with self._turn:
            was_paused, self._is_paused = self._is_paused, True
            try:
                await self._quieten(mode)
                await self._client.utility("pause")
            except BaseException:
                self._is_paused = was_paused
                self._send_held()
                raise
            if clear_cache:
                await self.reset_prefix_cache(reset_running_requests=True)

    async def resume(self) -> None:
        """Go on with what was kept and what has come since. Harmless when nothing was paused."""
        async with self._turn:
            await self._client.utility("resume")
            self._is_paused = False
            self._send_held()

    async def sleep(self, level: int = 1, mode: QuietMode = "abort") -> None:
        """Give memory back: level 1 that of the KV cache, 2 that of the weights too, 0 none.

        Raises `InvalidRequestError` without --enable-sleep-mode.
        """
        self.check_may_sleep()
        async with self._turn:
            before = self._level, self._refuses
            self._refuses = mode != "keep"
            self._level = max(level, self._level or 0)
            try:
                await self._quieten(mode)
                await self._client.utility("sleep", level)
            except BaseException:
                self._level, self._refuses = before
                raise
            self._on_sleep(self._level)

    async def wake_up(self, tags: Sequence[str] | None = None) -> bool:
        """Restore what `tags` name ("weights", "kv_cache"), all for None; whether the engine still sleeps.

        Weights are read from the checkpoint again. Raises `EngineCallError` where that is not possible.
        """
        async with self._turn:
            if await self._client.utility("wake_up", None if tags is None else list(tags)):
                return True
            self._level, self._refuses = None, False
            self._on_sleep(None)
            self._send_held()
            return False

    async def restore(self) -> None:
        """Put a new engine to the rest that the old one had, if any. Raises `EngineError`; it is awake then."""
        if self._is_paused:
            await self._client.utility("pause")
        if self._level is not None:
            try:
                await self._client.utility("sleep", self._level)
            except EngineDeadError:
                raise
            except BaseException:
                self._level, self._refuses = None, False
                self._on_sleep(None)
                raise

    def check_may_sleep(self) -> None:
        if not self._may_sleep:
            raise InvalidRequestError("this engine may not sleep; start the server with --enable-sleep-mode")

    async def release_kv_cache_memory(self) -> int:
        """Give back the memory of the KV cache, bytes, and go on: it fills again as tokens are written.

        Raises `InvalidRequestError` where the engine computes on a GPU, whose memory does not come back by itself.
        """
        if self._device != "cpu":
            raise InvalidRequestError(
                "only on a CPU does the KV cache's memory come back as it is written; on a GPU POST /sleep?level=1 "
                "gives it back, and POST /wake_up takes it again"
            )
        return int(await self._client.utility("release_kv_cache"))

    async def reset_prefix_cache(self, reset_running_requests: bool = False) -> bool:
        """Forget all prefixes. False, and nothing done, while requests hold blocks, unless these are computed again."""
        return bool(await self._client.utility("reset_prefix_cache", reset_running_requests))

    # --- inside --------------------------------------------------------------------------------------

    @property
    def _is_closed(self) -> bool:
        return self._is_paused or self._level is not None

    async def _quieten(self, mode: QuietMode) -> None:
        if mode == "abort":
            self._abort_all()
        elif mode == "wait":
            self._awaited = self._open - self._held.keys()
            self._all_ended.clear()
            if self._awaited:
                logger.info("waiting for %d requests to end", len(self._awaited))
                await self._all_ended.wait()

    def _send_held(self) -> None:
        if self._is_closed:
            return
        held, self._held = self._held, {}
        try:
            for requests in held.values():
                for request in requests:
                    self._send_request(request)
        except EngineDeadError:  # each stream hears of it from whoever reads the engine's answers
            return
