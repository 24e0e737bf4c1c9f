"""Which adapter is in which slot, who uses it, and who has to wait for one. Knows no block, no budget and no weights.

At most `max_loras` different adapters run at once; `max_cpu_loras` slots keep what was used lately. A request whose
adapter cannot run now is set aside, and those behind it go on. So that it is not overtaken for ever by requests of the
adapters that do run, who has waited for `PATIENCE_S` holds up all later ones of other adapters.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from kvik.config.lora import LoraConfig
from kvik.messages import LoraRequest
from kvik.scheduler.policies import Policy
from kvik.scheduler.request import Request

PATIENCE_S = 5.0


class AdapterSlots:
    """`acquire` when a request begins to run, `release` when it no longer does."""

    def __init__(self, config: LoraConfig) -> None:
        self._max_running = config.max_loras
        self._free = list(range(config.max_cpu_loras - 1, -1, -1))
        self._slots: OrderedDict[LoraRequest, int] = OrderedDict()
        """Adapters that are in memory, or will be when the next request of theirs runs; least recently used first."""
        self._num_running: Counter[LoraRequest] = Counter()
        self._unwanted: set[LoraRequest] = set()
        """To be forgotten when the last request that runs with them ends."""

    @property
    def running(self) -> list[LoraRequest]:
        """Adapters of running requests."""
        return list(self._num_running)

    def can_run(self, lora: LoraRequest | None) -> bool:
        return lora is None or lora in self._num_running or len(self._num_running) < self._max_running

    def acquire(self, lora: LoraRequest) -> int:
        """The slot for one more request, which `can_run`."""
        slot = self.place(lora)
        assert slot is not None, "as many adapters run as there are slots"
        self._num_running[lora] += 1
        return slot

    def release(self, lora: LoraRequest) -> None:
        self._num_running[lora] -= 1
        if not self._num_running[lora]:
            del self._num_running[lora]
            if lora in self._unwanted:
                self.forget(lora)

    def place(self, lora: LoraRequest) -> int | None:
        """A slot for the adapter: its own, a free one, or that of who was idle longest. None: all are in use."""
        if lora not in self._slots:
            if not self._free:
                idle = next((other for other in self._slots if other not in self._num_running), None)
                if idle is None:
                    return None
                self.forget(idle)
            self._slots[lora] = self._free.pop()
        self._slots.move_to_end(lora)
        return self._slots[lora]

    def forget(self, lora: LoraRequest) -> None:
        """Give its slot back, at once or when the last request that runs with it ends. Unknown ones are fine."""
        if lora in self._num_running:
            self._unwanted.add(lora)
            return
        self._unwanted.discard(lora)
        slot = self._slots.pop(lora, None)
        if slot is not None:
            self._free.append(slot)


class Turns:
    """The waiting requests of one scan in the order of their turn, those left out whose adapter cannot run now.

    To be used in a `with` block: at its end those that were set aside stand where they stood.
    """

    def __init__(self, waiting: Policy, slots: AdapterSlots | None, clock: Callable[[], float]) -> None:
        self._waiting = waiting
        self._slots = slots
        self._clock = clock
        self._aside: list[Request] = []
        self._holds_up_adapters = False

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        for request in reversed(self._aside):
            self._waiting.reinsert(request)

    @property
    def aside(self) -> Sequence[Request]:
        """Requests that were left out so far."""
        return self._aside

    def next(self) -> Request | None:
        """Whose turn it is; None when nobody waits who could run."""
        while self._waiting:
            request = self._waiting.peek()
            if self._slots is None or request.lora is None or self._may_run(request, self._slots):
                return request
            self._waiting.remove(request)
            self._aside.append(request)
        return None

    def _may_run(self, request: Request, slots: AdapterSlots) -> bool:
        if self._holds_up_adapters:
            return False
        if slots.can_run(request.lora):
            return True
        self._holds_up_adapters = self._clock() - request.arrival_time_s > PATIENCE_S
        return False
