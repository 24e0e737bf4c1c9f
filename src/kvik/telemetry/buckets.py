"""Upper bounds of the histograms, by family. `--custom-histogram-buckets` replaces families by these names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile

REQUEST_TOKENS = "request_tokens"

FAMILIES: dict[str, tuple[float, ...]] = {
    "request_latency": (
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
    ),
    "time_to_first_token": (
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
        2560,
    ),
    "inter_token_latency": (
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
    ),
    "engine_step": (
        0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2,
        5, 10,
    ),
    "iteration_tokens": (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "request_params_n": (1, 2, 5, 10, 20),
    "request_num_preemptions": (1, 2, 3, 4, 5, 10, 20),
    REQUEST_TOKENS: (),  # depends on the model: see `bucket_families`
}  # fmt: skip


def bucket_families(max_model_len: int, custom: Mapping[str, Sequence[float]] | None = None) -> dict[str, list[float]]:
    """Bounds of every family for a model of this length (tokens), with `custom` ones laid over; +Inf is implied."""
    families = {name: list(bounds) for name, bounds in FAMILIES.items()}
    families[REQUEST_TOKENS] = [float(b) for b in one_two_five(max_model_len)]
    return families | {name: list(bounds) for name, bounds in (custom or {}).items()}


def one_two_five(limit: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to and including `limit`, which is at least 1."""
    series = (digit * 10**power for power in count() for digit in (1, 2, 5))
    return list(takewhile(lambda bound: bound <= limit, series))
