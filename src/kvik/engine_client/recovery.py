"""From a dead engine to one that goes on with what the dead one had. Knows no HTTP, no text and no process.

The tokens that clients have are with the output processor; an engine that gets them with the request computes the same
ones after them. So nothing is lost but time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvik.engine_client.admission.admission import AdmissionDesk
from kvik.engine_client.control import EngineControl
from kvik.engine_client.readmission import Readmission
from kvik.errors import EngineDeadError, EngineRequestError, KvikError
from kvik.telemetry.log import get_logger
from kvik.text.output_processor import OutputProcessor

if TYPE_CHECKING:
    from kvik.engine_client.core_client import AsyncCoreClient

logger = get_logger(__name__)

_GUILTY = (
    "the engine has died repeatedly while it computed this request, which is not tried again; other requests go on. "
    "The server's log says what the engine died of"
)


class Recovery:
    """`recover` belongs to the task that reads the engine's steps, and is called when they end."""

    def __init__(
        self,
        client: AsyncCoreClient,
        requests: OutputProcessor,
        control: EngineControl,
        readmission: Readmission,
        fail: Callable[[str, EngineRequestError], None],
        on_resumed: Callable[[int], None] = lambda num_requests: None,
        *,
        desk: AdmissionDesk,
    ) -> None:
        """`fail` ends the request of an engine id; `on_resumed` hears how many requests an engine was given again.

        What `desk` still holds is no engine's yet.
        """
        self._desk = desk
        self._client = client
        self._requests = requests
        self._control = control
        self._readmission = readmission
        self._fail = fail
        self._on_resumed = on_resumed
        self._reopening: asyncio.Task[None] | None = None
        self._is_recovering = False

    @property
    def is_recovering(self) -> bool:
        """There is no engine that requests could be sent to."""
        return self._is_recovering

    async def recover(self, error: Exception) -> None:
        """Have an engine again, which is told of all open requests meanwhile. Raises `EngineDeadError` for good."""
        self._is_recovering = True
        open_ids = [i for i in self._requests.engine_ids if not self._desk.holds_sequence(i)]
        logger.error("the engine is dead: %s; %d sequences are open", error, len(open_ids))
        for engine_id in self._readmission.engine_died(self._client.pulse, open_ids):
            logger.error("request %s ran in engines that died, and is ended", engine_id)
            self._fail(engine_id, EngineRequestError(_GUILTY))
        await self._client.restart(str(error))
        # Only a reader of steps gets the answers that this waits for, so it cannot be waited for here.
        self._reopening = asyncio.create_task(self._reopen(), name="reopen-engine")

    async def close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.wait((self._reopening,))

    async def _reopen(self) -> None:
        """The new engine rests where the old one did, and is given its requests."""
        try:
            await self._control.restore()
        except EngineDeadError:
            return  # whoever reads the steps begins again
        except KvikError as error:
            logger.error("the new engine is awake though the old one slept: %s", error)
        requests = [r for r in self._requests.resumable() if not self._desk.holds(r[0])]
        self._desk.engine_restarted()
        self._readmission.readmit(self._control.take_back(requests))
        self._is_recovering = False
        self._on_resumed(len(requests))
        num_suspects = self._readmission.num_suspects
        logger.info("%d requests go on; %d sequences take turns at first", len(requests), num_suspects)
