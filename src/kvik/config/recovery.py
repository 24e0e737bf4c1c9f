"""What a server does when its engine dies or hangs. Knows no process."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.config.flags import flag
from kvik.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """Flags of the engine's supervisor. Raises `ConfigError` for values that mean nothing."""

    max_engine_restarts: int = flag(
        3, "restarts of a dead engine within 10 minutes; at the next death the server ends; 0: it never restarts",
        ours=True, common=True,
    )  # fmt: skip
    recovery_queue: bool = flag(
        False, "while the engine restarts, hold new requests instead of answering 503", ours=True
    )
    stall_timeout: float = flag(
        60.0, "seconds without progress after which an engine with work is restarted; 0: never", ours=True
    )

    def __post_init__(self) -> None:
        if self.max_engine_restarts < 0:
            raise ConfigError(f"--max-engine-restarts takes 0 or more, got {self.max_engine_restarts}")
        if not 0 <= self.stall_timeout < float("inf"):
            raise ConfigError(f"--stall-timeout takes seconds, 0 or more, got {self.stall_timeout}")
