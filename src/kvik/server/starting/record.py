"""What is kept of a start: phases as they come, the table at its end, a trace file, and what it took for the next one.

All that is written is written after the server is ready, and in a thread where it takes longer than a log line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence

from kvik import FIRST_LINE_S
from kvik.config import EngineConfig
from kvik.messages import Phase
from kvik.telemetry.log import get_logger
from kvik.telemetry.phase_table import phase_table
from kvik.telemetry.phase_trace import write_trace
from kvik.telemetry.phases import PhaseTimer
from kvik.telemetry.start_estimate import Expectation, measured_seconds
from kvik.telemetry.start_memory import StartMemory, checkpoint_bytes, key_of
from kvik.telemetry.timeline import Timeline

logger = get_logger(__name__)


class StartRecord:
    """One per start of a server. `close` at the end of the process, whether or not it ever got ready."""

    def __init__(self, config: EngineConfig, trace_path: str | None, earlier: Sequence[Phase]) -> None:
        """`earlier`: phases of this process so far."""
        began_s = min((phase.start_s for phase in earlier), default=FIRST_LINE_S)
        self.timeline = Timeline(began_s, Expectation())
        self.timer = PhaseTimer("APIServer", self.timeline.observe)
        for phase in earlier:
            self.timer.add(phase)
        self._config = config
        self._trace_path = trace_path
        self._memory = StartMemory()
        self._key = ""
        self._is_ready = False
        self._writing: asyncio.Future[None] | None = None

    def recall(self) -> None:
        """Look up what a start like this one took the last time."""
        num_bytes = checkpoint_bytes(self._config.model.model)
        self._key = key_of(self._config, num_bytes)
        known = self._memory.recall(self._key)
        self.timeline.expect(Expectation.nominal(num_bytes) if known is None else Expectation.measured(known))

    def last_phase(self, name: str) -> Callable[[], None]:
        """Begin the phase that ends when the server is ready; to be called then, in the event loop."""
        span = Phase(name, self.timer.process, time.monotonic(), None)
        self.timer.tell(span)

        def on_ready() -> None:
            span.end_s = time.monotonic()
            self.timer.add(span)
            self.timeline.ready()
            self._is_ready = True
            if not sys.stderr.isatty():
                logger.info("Phases of the start:\n%s", phase_table(self.timeline.phases, self.timeline.began_s))
            self._writing = asyncio.get_running_loop().run_in_executor(None, self._write)

        return on_ready

    def close(self) -> None:
        """A start that came to nothing leaves its trace, too."""
        if not self._is_ready:
            self._write_trace()

    def _write(self) -> None:
        if sys.stderr.isatty():
            self._print()
        self._write_trace()
        self._memory.remember(self._key, measured_seconds(self.timeline.phases))

    def _print(self) -> None:
        """Imports rich, which would keep a start waiting."""
        from kvik.telemetry.phase_picture import print_phases

        try:
            print_phases(self.timeline.phases, self.timeline.began_s, sys.stderr)
        except OSError as error:
            logger.warning("the phases of the start cannot be shown: %s", error)

    def _write_trace(self) -> None:
        if self._trace_path is not None:
            write_trace(self._trace_path, self.timeline.phases, self.timeline.began_s)
