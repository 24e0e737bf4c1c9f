from __future__ import annotations

import json

import pytest

from kvik.kernels import launch

FILES = sorted(launch.FOLDER.glob("sm_*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_each_file_knows_all_ops_for_all_sizes(file: launch.Path) -> None:
    rows_by_op = json.loads(file.read_text())
    assert set(rows_by_op) == set(json.loads(FILES[0].read_text()))
    for op, rows in rows_by_op.items():
        assert not rows[-1].get("up_to"), f"{op}: the last row has a limit, so some sizes have no row"
        settings = [set(row) - {"up_to"} for row in rows]
        assert all(names == settings[0] for names in settings), f"{op}: its rows settle different things"


def test_the_first_row_that_takes_the_sizes() -> None:
    assert launch.launch("rms_norm", columns=1024)["num_warps"] < launch.launch("rms_norm", columns=10**6)["num_warps"]
    assert "up_to" not in launch.launch("rms_norm", columns=64)


def test_capabilities_between_files_take_the_next_lower_one() -> None:
    assert launch.rows_of((8, 6)) == launch.rows_of((8, 0))
    assert launch.rows_of((12, 0)) == launch.rows_of((9, 0))
    assert launch.rows_of((0, 0)) == launch.rows_of((8, 0))


def test_an_unknown_op_is_named() -> None:
    with pytest.raises(KeyError, match="no row of kernels/tuned for nonsense"):
        launch.launch("nonsense", columns=1)
