from __future__ import annotations

from kvik.messages import Phase
from kvik.telemetry.phase_table import phase_table


def test_phases_of_both_processes_on_one_clock() -> None:
    phases = [
        Phase("load weights", "EngineCore", 101.0, 103.0, num_bytes=256 * 2**20),
        Phase("parse flags", "APIServer", 100.0, 100.5),
        Phase("import server", "APIServer", 101.0, 104.0),
    ]
    assert phase_table(phases).splitlines() == [
        "phase          process     start s  took s  share    MiB",
        "parse flags    APIServer     0.000   0.500    12%",
        "import server  APIServer     1.000   3.000    75%",
        "load weights   EngineCore    1.000   2.000    50%  256.0",
        "total                        0.000   4.000   100%",
    ]


def test_no_time_at_all() -> None:
    assert phase_table([]) == "no phases"
    assert "0%" in phase_table([Phase("x", "p", 1.0, 1.0)])
