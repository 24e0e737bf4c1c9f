"""The one ledger of memory: who holds how many bytes, and how many it may be.

What is reserved at the start stands here as a number, what is counted elsewhere as a question, and what clients can
multiply as an account: it must be asked before memory is taken, and refuses the request that would pass its limit.
Knows no metric and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvik.errors import QueueFullError


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger, now."""

    part: str
    used_bytes: int
    limit_bytes: int


class Account:
    """Bytes that requests take and give back."""

    def __init__(self, part: str, limit_bytes: int, flag: str) -> None:
        """`flag` is the one that sets the limit."""
        self.part = part
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._flag = flag

    def take(self, num_bytes: int) -> None:
        """Raises `QueueFullError` when they would pass the limit; nothing is taken then."""
        if self.used_bytes + num_bytes > self.limit_bytes:
            raise QueueFullError(
                f"{self.part} of open requests hold {self.used_bytes} bytes, and this one needs {num_bytes} of the "
                f"{self.limit_bytes} that {self._flag} allows; try again when others have ended"
            )
        self.used_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        self.used_bytes -= num_bytes


class Ledger:
    """Lines by the name of their part, in order of their making."""

    def __init__(self) -> None:
        self._lines: dict[str, Callable[[], Entry]] = {}

    def reserve(self, part: str, num_bytes: int) -> None:
        """A part that has all its bytes from the start."""
        self._lines[part] = lambda: Entry(part, num_bytes, num_bytes)

    def observe(self, part: str, used_bytes: Callable[[], int], limit_bytes: int) -> None:
        """A part that bounds itself, and can be asked."""
        self._lines[part] = lambda: Entry(part, used_bytes(), limit_bytes)

    def account(self, part: str, limit_bytes: int, flag: str) -> Account:
        """A part that requests share."""
        account = Account(part, limit_bytes, flag)
        self.observe(part, lambda: account.used_bytes, limit_bytes)
        return account

    def __iter__(self) -> Iterator[Entry]:
        return (line() for line in list(self._lines.values()))
