"""How fast a model could run, from what a machine reads and multiplies in a second. Estimates: never promises.

A step reads all matrices once, and the keys and values of every request; a prompt's token is a multiply-add per element
of the layers. Attention's own arithmetic, the sampler and the server are left out, so figures are upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvik.plan.memory_plan import Outcome


@dataclass(frozen=True)
class MachineSpeed:
    """What a machine did when it was measured, or is said to do. Rates by format of the matrix; "" is any format."""

    read_bytes_per_s: dict[str, float] = field(default_factory=dict)
    """Of a matrix that is multiplied with one row."""
    multiply_adds_per_s: dict[str, float] = field(default_factory=dict)
    """Of a matrix that is multiplied with hundreds of rows."""
    source: str = ""
    """Where the rates come from, in words."""

    def merged(self, newer: MachineSpeed) -> MachineSpeed:
        return MachineSpeed(
            {**self.read_bytes_per_s, **newer.read_bytes_per_s},
            {**self.multiply_adds_per_s, **newer.multiply_adds_per_s},
            newer.source,
        )


@dataclass(frozen=True)
class SpeedEstimate:
    """Tokens per second; None where the machine's rate is not known."""

    decode_one_request: float | None
    """One request with little context."""
    decode_one_long_request: float | None
    """One request at the end of its context."""
    decode_full: float | None
    """All requests together, as many as fit, each at the end of its context."""
    num_full_requests: int
    prefill: float | None
    source: str


def estimate(outcome: Outcome, speed: MachineSpeed) -> SpeedEstimate:
    """Of one device; several that share a model are taken to wait for nothing but their own memory."""
    weights_s = _seconds(outcome.weights.product_bytes_by_format, speed.read_bytes_per_s)
    prompt_s = _seconds(outcome.weights.prompt_elements_by_format, speed.multiply_adds_per_s)
    length = min(outcome.kv.max_model_len, max(1, outcome.largest_model_len))
    request_s = _kv_seconds(outcome, length, speed)
    num_requests = min(outcome.requests_of(length), outcome.config.scheduler.max_num_seqs)
    return SpeedEstimate(
        decode_one_request=_rate(1, weights_s, 0.0),
        decode_one_long_request=_rate(1, weights_s, request_s),
        decode_full=_full_rate(num_requests, weights_s, request_s, prompt_s) if num_requests else None,
        num_full_requests=num_requests,
        prefill=_rate(1, prompt_s, 0.0),
        source=speed.source,
    )


def _full_rate(count: int, weights_s: float | None, request_s: float | None, token_s: float | None) -> float | None:
    """A step waits for memory or for arithmetic, whichever takes longer."""
    if weights_s is None or request_s is None:
        return None
    return count / (max(weights_s, count * (token_s or 0.0)) + count * request_s)


def _rate(num_tokens: int, first_s: float | None, second_s: float | None) -> float | None:
    if first_s is None or second_s is None or first_s + second_s <= 0:
        return None
    return num_tokens / (first_s + second_s)


def _kv_seconds(outcome: Outcome, num_tokens: int, speed: MachineSpeed) -> float | None:
    """To read the keys and values of one request, windows of sliding layers taken for what they are."""
    if not speed.read_bytes_per_s:
        return None
    spec = outcome.config.model.spec
    seen = sum(min(num_tokens, spec.sliding_window(layer) or num_tokens) for layer in range(spec.num_layers))
    num_bytes = outcome.kv_bytes_per_token / spec.num_layers * seen
    return num_bytes / max(speed.read_bytes_per_s.values())


def _seconds(amounts: dict[str, int], rates: dict[str, float]) -> float | None:
    """None where a format's rate is not known."""
    total = 0.0
    for fmt, amount in amounts.items():
        rate = rates.get(fmt, rates.get(""))
        if rate is None:
            return None
        total += amount / rate
    return total
