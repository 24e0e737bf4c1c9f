"""How much may wait in front of the engine, and for how long. Knows no queue."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.config.flags import flag
from kvik.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """Flags of the queue in front of the engine. Raises `ConfigError` for values that mean nothing."""

    max_queued_requests: int = flag(
        2048, "prompts that may wait for the engine; beyond, the answer is 429; 0: no limit", kind="size", ours=True,
        common=True,
    )  # fmt: skip
    max_queued_tokens: int = flag(
        4194304, "tokens that waiting prompts may have together; beyond, the answer is 429; 0: no limit", kind="size",
        ours=True,
    )  # fmt: skip
    queue_timeout: float = flag(
        0.0, "seconds that a request may wait for the engine, then it ends with 429; 0: no limit", ours=True
    )
    fair_share_header: str | None = flag(
        None, "header whose value says whose a request is, for fair shares of the engine; unset: the API key", ours=True
    )

    def __post_init__(self) -> None:
        for name, value in (("requests", self.max_queued_requests), ("tokens", self.max_queued_tokens)):
            if value < 0:
                raise ConfigError(f"--max-queued-{name} takes 0 (no limit) or more, got {value}")
        if not 0 <= self.queue_timeout < float("inf"):
            raise ConfigError(f"--queue-timeout takes seconds, 0 (no limit) or more, got {self.queue_timeout}")
        if self.fair_share_header is not None and not _is_header_name(self.fair_share_header):
            raise ConfigError(f"--fair-share-header takes the name of a header, got {self.fair_share_header!r}")


def _is_header_name(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()
