"""Who is next: deficit round robin over owners, priorities and order of arrival inside of one. Knows no clock.

Each owner with something waiting has a turn in the ring, and may spend `quantum` tokens per turn; what a request costs
beyond that is saved up over turns, and what is left is kept for the next. So owners who always have something waiting
get equal numbers of tokens, within one quantum and one request, whatever the sizes and the counts of their requests.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Generic, TypeVar

T = TypeVar("T")

QUANTUM_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One request in the queue. `cost` in tokens, 1 or more."""

    owner: str
    priority: int
    """Lower is sooner, among requests of the same owner."""
    arrival: int
    """Unique, rising."""
    cost: int
    item: T

    @property
    def key(self) -> tuple[int, int]:
        return self.priority, self.arrival


@dataclass(slots=True)
class _Share(Generic[T]):
    """An owner's requests, the next one first."""

    owner: str
    waiting: list[Waiting[T]] = field(default_factory=list)
    cost: int = 0
    """Of all that wait."""
    deficit: int = 0
    has_turn: bool = False
    """It stands at the front and has been given this turn's tokens."""


class FairQueue(Generic[T]):
    """`push`, then `peek` and `remove` what it returned; `remove` takes out any other as well."""

    def __init__(self, quantum: int = QUANTUM_TOKENS) -> None:
        self._quantum = quantum
        self._shares: dict[str, _Share[T]] = {}
        self._ring: deque[_Share[T]] = deque()
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    @property
    def cost(self) -> int:
        """Tokens of all that wait."""
        return sum(share.cost for share in self._ring)

    def push(self, waiting: Waiting[T]) -> None:
        share = self._shares.get(waiting.owner)
        if share is None:
            share = self._shares[waiting.owner] = _Share(waiting.owner)
            self._ring.append(share)
        insort(share.waiting, waiting, key=_key)
        share.cost += waiting.cost
        self._num_waiting += 1

    def remove(self, waiting: Waiting[T], *, is_served: bool) -> None:
        """Take out one that is in; `is_served`: at its owner's expense."""
        share = self._shares[waiting.owner]
        del share.waiting[bisect_left(share.waiting, waiting.key, key=_key)]
        share.cost -= waiting.cost
        self._num_waiting -= 1
        if is_served:
            share.deficit -= waiting.cost
        if not share.waiting:  # who has nothing waiting saves nothing up
            del self._shares[share.owner]
            self._ring.remove(share)

    def peek(self, may_be_served: Callable[[str], bool] = lambda owner: True) -> Waiting[T] | None:
        """The next one, of the owners who may be served at all; asked again, the same one."""
        able = {share.owner for share in self._ring if may_be_served(share.owner)}
        while able:
            for _ in range(len(self._ring)):
                share = self._ring[0]
                if share.owner in able and self._can_pay(share):
                    return share.waiting[0]
                share.has_turn = False
                self._ring.rotate(-1)
            self._skip_turns(able)
        return None

    def ahead_of(self, owner: str, priority: int, cost: int) -> tuple[int, int]:
        """Requests, and tokens of them, that would go before one that came now; others as far as fairness lets them."""
        share = self._shares.get(owner)
        own_num, own_cost = (0, 0) if share is None else _before(share, priority)
        num, tokens = own_num, own_cost
        for other in self._ring:
            if other.owner != owner:
                num += min(len(other.waiting), own_num + 1)
                tokens += min(other.cost, own_cost + cost)
        return num, tokens

    def in_turn(self) -> list[Waiting[T]]:
        """All that wait, in the order that they would have if all cost the same."""
        rounds = zip_longest(*(share.waiting for share in self._ring))
        return [waiting for one_of_each in rounds for waiting in one_of_each if waiting is not None]

    def _can_pay(self, share: _Share[T]) -> bool:
        if not share.has_turn:
            share.has_turn = True
            share.deficit += self._quantum
        return share.waiting[0].cost <= share.deficit

    def _skip_turns(self, able: set[str]) -> None:
        """Nobody could pay: all save up at once what they need until the first can pay at the next turn."""
        shares = [self._shares[owner] for owner in able]
        num_turns = min((s.waiting[0].cost - s.deficit - 1) // self._quantum for s in shares)
        for share in shares:
            share.deficit += num_turns * self._quantum


def _key(waiting: Waiting[T]) -> tuple[int, int]:
    return waiting.key


def _before(share: _Share[T], priority: int) -> tuple[int, int]:
    at = bisect_left(share.waiting, (priority + 1, 0), key=_key)
    if at == len(share.waiting):
        return at, share.cost
    return at, sum(waiting.cost for waiting in share.waiting[:at])
