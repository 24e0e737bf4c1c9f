"""Finds connections whose client takes nothing of its answer, or does not finish its request. Knows no socket.

A stream waits for its client: what is unsent has a bound (`--send-buffer-bytes`). What it holds meanwhile, in this
process and in the engine, is given back when the client has taken nothing for too long. Others do not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from kvik.telemetry.connection_metrics import ConnectionMetrics
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class Connection(Protocol):
    """What is asked of one."""

    @property
    def num_stuck_bytes(self) -> int:
        """Bytes that nothing is added to until the client takes some of them; 0: the client is not waited for."""

    @property
    def awaited_request(self) -> int | None:
        """The number of the request whose rest the client owes; None: it owes nothing."""

    @property
    def name(self) -> str:
        """Client and path, for the log."""

    def abort(self) -> None:
        """Close at once; what is unsent is lost."""

    def refuse_late_request(self) -> None:
        """Say that the request came too slowly, where that can be said, and close."""


class ClientWatch:
    """`look` is to be called every now and then; a timeout of 0 never passes."""

    def __init__(self, slow_client_timeout_s: float, header_timeout_s: float, metrics: ConnectionMetrics) -> None:
        self._slow_client_timeout_s = slow_client_timeout_s
        self._header_timeout_s = header_timeout_s
        self._metrics = metrics
        self._stuck = _Since(slow_client_timeout_s)
        self._awaited = _Since(header_timeout_s)

    def look(self, connections: Iterable[Connection], now_s: float) -> None:
        """End those that have not moved since before their timeout. `now_s`: of any monotonic clock."""
        connections = list(connections)
        for connection in self._stuck.overdue(connections, lambda c: c.num_stuck_bytes or None, now_s):
            logger.warning(
                "%s has taken nothing of its answer for %g s and is disconnected (--slow-client-timeout)",
                connection.name, self._slow_client_timeout_s,
            )  # fmt: skip
            self._metrics.slow_clients_ended.inc()
            connection.abort()
        for connection in self._awaited.overdue(connections, lambda c: c.awaited_request, now_s):
            self._metrics.slow_requests_ended.inc()
            connection.refuse_late_request()


class _Since:
    """Since when each connection has been in the state that it is in; forgets those that are not listed any more."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._seen: dict[Connection, tuple[Any, float]] = {}

    def overdue(
        self, connections: list[Connection], state_of: Callable[[Connection], int | None], now_s: float
    ) -> list[Connection]:
        """Those whose state, other than None, is what it was `timeout_s` ago."""
        if self._timeout_s <= 0:
            return []
        states = ((connection, state_of(connection)) for connection in connections)
        before, self._seen = self._seen, {}
        for connection, state in states:
            if state is not None:
                seen = before.get(connection)
                self._seen[connection] = seen if seen is not None and seen[0] == state else (state, now_s)
        return [c for c, (_, since_s) in self._seen.items() if now_s - since_s >= self._timeout_s]
