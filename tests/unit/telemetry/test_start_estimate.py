from __future__ import annotations

import pytest

from kvik.messages import Phase
from kvik.telemetry.start_estimate import (
    CHAIN,
    NOMINAL_BYTES_PER_S,
    WEIGHTS,
    Expectation,
    measured_seconds,
    seconds_left,
)

ENGINE, API = "EngineCore_DP0", "APIServer"
KNOWN = Expectation.measured({"interpreter": 0.1, "imports": 2.0, WEIGHTS: 10.0, "warm up": 1.0, "routes": 0.5})


def test_before_the_engine_says_anything_all_of_it_is_left() -> None:
    assert seconds_left(KNOWN, [], 100.0) == pytest.approx(13.6)
    assert seconds_left(KNOWN, [Phase("interpreter", API, 99.0, 99.5)], 100.0) == pytest.approx(13.6)


def test_what_has_ended_is_not_left_and_what_goes_on_is_as_far_as_it_is() -> None:
    phases = [Phase("interpreter", ENGINE, 100.0, 100.3), Phase("imports", ENGINE, 100.3, None)]
    assert seconds_left(KNOWN, phases, 101.3) == pytest.approx(1.0 + 11.5)
    assert seconds_left(KNOWN, phases, 500.0) == pytest.approx(11.5)


def test_a_phase_that_did_not_come_is_not_waited_for() -> None:
    assert seconds_left(KNOWN, [Phase("warm up", ENGINE, 100.0, 101.0)], 101.0) == pytest.approx(0.5)


def test_bytes_that_were_read_tell_more_than_the_last_start() -> None:
    loading = Phase(WEIGHTS, ENGINE, 100.0, None, num_bytes=1000, num_bytes_done=100)
    assert seconds_left(KNOWN, [loading], 102.0) == pytest.approx(2.0 * 9 + 1.5)
    loading.num_bytes_done = 1200  # more than was announced
    assert seconds_left(KNOWN, [loading], 102.0) == pytest.approx(1.5)
    assert seconds_left(KNOWN, [loading], 100.1) == pytest.approx(9.9 + 1.5), "too early to tell a speed"
    loading.num_bytes_done = 1
    assert seconds_left(KNOWN, [loading], 104.0) == pytest.approx(6.0 + 1.5), "too little"


def test_a_first_start_is_guessed_from_its_bytes() -> None:
    left_s = seconds_left(Expectation.nominal(int(40 * NOMINAL_BYTES_PER_S)), [], 0.0)
    assert left_s == pytest.approx(40 + sum(CHAIN.values()) - CHAIN[WEIGHTS])
    assert seconds_left(Expectation.nominal(0), [], 0.0) == pytest.approx(sum(CHAIN.values()))


def test_an_engine_that_is_replaced_takes_what_its_first_start_took() -> None:
    phases = [
        Phase("interpreter", API, 0.0, 9.0), Phase("interpreter", ENGINE, 9.0, 9.5),
        Phase("imports", ENGINE, 9.5, 11.0),
        Phase("load weights: a", ENGINE, 11.0, 12.0), Phase("routes", API, 12.0, 13.0),
        Phase("warm up", ENGINE, 13.0, None),
    ]  # fmt: skip
    assert seconds_left(Expectation.of_restart(phases), [], 20.0) == pytest.approx(2.0)
    assert measured_seconds(phases) == {"interpreter": 0.5, "imports": 1.5, "routes": 1.0}
