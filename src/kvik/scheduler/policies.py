"""Who is next and who must give way: first come first served, or by priority. Knows no blocks and no budget."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Protocol

from kvik.errors import ConfigError
from kvik.scheduler.request import Request


class Policy(Protocol):
    """The requests that wait, in the order of their turn."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Request]: ...

    def push(self, request: Request) -> None:
        """Queue a new request."""

    def reinsert(self, request: Request) -> None:
        """Queue a request that had its turn and lost it."""

    def peek(self) -> Request:
        """Whose turn it is. Raises `IndexError` when nobody waits."""

    def remove(self, request: Request) -> None:
        """Take out a request that waits. Raises `KeyError` when it does not."""

    def victim(self, running: Sequence[Request]) -> Request:
        """Which of the running requests is preempted when blocks run out."""


def make_policy(name: str) -> Policy:
    """The policy of `--scheduling-policy`. Raises `ConfigError` for an unknown name."""
    if name == "fcfs":
        return FirstComeFirstServed()
    if name == "priority":
        return ByPriority()
    raise ConfigError(f"--scheduling-policy must be 'fcfs' or 'priority', got {name!r}")


class FirstComeFirstServed:
    """Arrival order. A preempted request goes to the front, for it is older than all that wait.

    An ordered dict rather than a deque: an abort finds its request without a walk.
    """

    def __init__(self) -> None:
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    def push(self, request: Request) -> None:
        self._requests[request.request_id] = request

    def reinsert(self, request: Request) -> None:
        self._requests[request.request_id] = request
        self._requests.move_to_end(request.request_id, last=False)

    def peek(self) -> Request:
        if not self._requests:
            raise IndexError("no request waits")
        return next(iter(self._requests.values()))

    def remove(self, request: Request) -> None:
        del self._requests[request.request_id]

    def victim(self, running: Sequence[Request]) -> Request:
        return running[-1]


Turn = tuple[int, float, str]


def _turn(request: Request) -> Turn:
    return request.priority, request.arrival_time_s, request.request_id


class ByPriority:
    """Lowest (priority, arrival, id) first. Who is removed from elsewhere stays in the heap until its top."""

    def __init__(self) -> None:
        self._heap: list[tuple[Turn, int, Request]] = []
        self._requests: dict[str, Request] = {}
        self._num_pushes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(sorted(self._requests.values(), key=_turn))

    def push(self, request: Request) -> None:
        self._num_pushes += 1  # decides between equal turns, so that requests themselves are never compared
        heapq.heappush(self._heap, (_turn(request), self._num_pushes, request))
        self._requests[request.request_id] = request

    reinsert = push

    def peek(self) -> Request:
        while self._heap:
            request = self._heap[0][-1]
            if self._requests.get(request.request_id) is request:
                return request
            heapq.heappop(self._heap)
        raise IndexError("no request waits")

    def remove(self, request: Request) -> None:
        del self._requests[request.request_id]
        if self._heap[0][-1] is request:  # so that who is set aside and comes back in each step is there once
            heapq.heappop(self._heap)

    def victim(self, running: Sequence[Request]) -> Request:
        return max(running, key=_turn)
