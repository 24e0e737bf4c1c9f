from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from kvik.telemetry.process_start import MAX_INTERPRETER_START_S, process_start_s, start_ticks

FIELDS = "S 1 2 2 0 -1 4194304 800 0 0 0 3 1 0 0 20 0 1 0 {ticks} 12345 67 18446744073709551615"


def stat_of(age_s: float, name: str = "python") -> str:
    """Of a process that began `age_s` ago."""
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK"))
    return f"4242 ({name}) " + FIELDS.format(ticks=ticks)


@pytest.mark.parametrize("name", ["python", "a b", "evil) S 1 (", "))", "", "0 1 2 3"])
def test_the_name_of_a_program_may_be_anything(name: str) -> None:
    assert start_ticks(f"7 ({name}) " + FIELDS.format(ticks=99)) == 99


def test_the_start_lies_on_the_clock_of_the_phases() -> None:
    now_s = time.monotonic()
    assert process_start_s(now_s, lambda: stat_of(0.5)) == pytest.approx(now_s - 0.5, abs=0.02)


@pytest.mark.parametrize(
    "stat",
    ["", "nonsense", "7 (python) S 1", "7 (python) " + FIELDS.format(ticks="x"), stat_of(-60), stat_of(3600)],
    ids=["nothing", "a word", "cut short", "no number", "in the future", "before the machine"],
)
def test_what_cannot_be_believed_is_not(stat: str) -> None:
    now_s = time.monotonic()
    assert process_start_s(now_s, lambda: stat) == now_s


def test_a_system_without_proc() -> None:
    def missing() -> str:
        raise FileNotFoundError

    assert process_start_s(5.0, missing) == 5.0


def test_a_shell_that_became_us_counts_until_the_limit_only() -> None:
    now_s = time.monotonic()
    assert process_start_s(now_s, lambda: stat_of(MAX_INTERPRETER_START_S + 1)) == now_s
    assert process_start_s(now_s, lambda: stat_of(MAX_INTERPRETER_START_S - 1)) < now_s - 5


def test_of_a_real_process() -> None:
    """What a child says is between what we saw before and after it was started; ticks are 10 ms."""
    code = """if True:
        from kvik import FIRST_LINE_S as first
        from kvik.telemetry.process_start import process_start_s
        print(process_start_s(first), first)"""
    before_s = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    after_s = time.monotonic()
    start_s, first_line_s = map(float, child.communicate()[0].split())
    assert before_s - 0.011 <= start_s <= after_s + 0.011
    assert start_s < first_line_s < time.monotonic()
