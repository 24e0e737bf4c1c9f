from __future__ import annotations

from kvik.messages import Phase
from kvik.telemetry.phase_table import bar_of, phase_table

PHASES = [
    Phase("load weights", "EngineCore", 101.0, 103.0, num_bytes=256 * 2**20),
    Phase("parse flags", "APIServer", 100.0, 100.5),
    Phase("import server", "APIServer", 101.0, 104.0),
    Phase("load weights: model.safetensors", "EngineCore", 101.0, 102.0, num_bytes=2**20),
    Phase("warm up", "EngineCore", 103.5, None),
]


def test_phases_of_both_processes_on_one_clock() -> None:
    assert phase_table(PHASES).splitlines() == [
        "phase                process     start s  took s  share    MiB",
        "parse flags          APIServer     0.000   0.500    12%         #####",
        "import server        APIServer     1.000   3.000    75%                   ##############################",
        "load weights         EngineCore    1.000   2.000    50%  256.0            ####################",
        "  model.safetensors  EngineCore    1.000   1.000    25%    1.0            ##########",
        "total                              0.000   4.000   100%",
    ]


def test_times_count_from_where_the_process_began() -> None:
    first, *_, total = phase_table(PHASES, began_s=96.0).splitlines()[1:]
    assert "4.000   0.500     6%" in first
    assert total.split() == ["total", "0.000", "8.000", "100%"]


def test_no_time_at_all() -> None:
    assert phase_table([]) == "no phases"
    assert phase_table([Phase("x", "p", 1.0, None)]) == "no phases"
    assert "0%" in phase_table([Phase("x", "p", 1.0, 1.0)])


def test_a_bar_is_where_its_phase_is_and_never_invisible() -> None:
    assert bar_of(0.0, 1.0, 4.0, width=8) == "##"
    assert bar_of(1.0, 2.0, 4.0, width=8) == "  ####"
    assert bar_of(1.0, 0.0001, 4.0, width=8) == "  #"
    assert bar_of(4.0, 0.0, 4.0, width=8) == "       #"
    assert bar_of(3.9, 0.1, 4.0, width=8) == "       #"
