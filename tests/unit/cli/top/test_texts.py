from __future__ import annotations

from kvik.cli.top.figures import Figures, MemoryLine, Percentiles
from kvik.cli.top.source import LiveRequest, Snapshot
from kvik.cli.top.texts import COLUMNS, figure_lines, memory_lines, request_row, state_line

FIGURES = Figures(
    num_running=3, num_waiting=2, waiting_for={"blocks": 2}, prompt_tokens_per_s=1234.56, generated_tokens_per_s=7.0,
    kv_cache_usage=0.5, prefix_cache_hit_rate=0.25, time_to_first_token=Percentiles(0.05, 0.9994, 2.5, 12),
    inter_token_latency=None, memory=(),
)  # fmt: skip
NOTHING = Figures(None, None, {}, None, None, None, None, None, None, ())


def test_figures_are_lines() -> None:
    assert figure_lines(FIGURES) == [
        "running  3   waiting  2  for blocks 2",
        "tokens/s  prompt 1,234.6   generated 7.0",
        "KV cache  ██████████░░░░░░░░░░ 50.0%   prefix cache hits 25.0%",
        "TTFT  p50 50 ms   p90 999 ms   p99 2.50 s   (12 in the last minute)",
        "ITL   nothing in the last minute",
    ]


def test_what_is_not_known_is_a_dash() -> None:
    assert figure_lines(NOTHING)[0] == "running  -   waiting  -"
    assert figure_lines(NOTHING)[2] == "KV cache  -   prefix cache hits -"


def test_the_largest_part_of_the_memory_comes_first() -> None:
    lines = memory_lines([MemoryLine("queue", 512, 2048), MemoryLine("weights", 3 << 30, 3 << 30)])
    assert lines == ["weights    3.00 GiB", "queue         512 B of 2.0 KiB"]
    assert memory_lines([]) == []


def test_a_request_has_a_cell_per_column() -> None:
    row = request_row(LiveRequest("cmpl-1", 0, "decode", "", 1.26, 10, 8, 2, 1, 0))
    assert row == ("cmpl-1", "decode", "", "1.3 s", "10", "8", "2", "1", "0")
    assert len(row) == len(COLUMNS)


def test_the_state_has_its_detail() -> None:
    assert state_line(Snapshot(0, "starting", "compile", None, None), "http://x") == "http://x  starting: compile"
    assert state_line(Snapshot(0, "ready", "", None, None), "http://x") == "http://x  ready"
