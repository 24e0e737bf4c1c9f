from __future__ import annotations

import logging
import threading

import pytest

from kvik.runner.compile_ahead import compiling_ahead


def test_it_goes_on_beside_the_reading_and_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    reading, compiled = threading.Event(), []

    def run() -> None:
        assert reading.wait(10)
        compiled.append(threading.current_thread().name)

    with caplog.at_level(logging.INFO), compiling_ahead(run):
        reading.set()
    assert compiled == ["compile-ahead"]
    assert "Kernels are ready after" in caplog.text


def test_failing_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def run() -> None:
        raise RuntimeError("no compiler")

    with compiling_ahead(run):
        pass
    assert "Kernels are not compiled ahead, but when they are needed: no compiler" in caplog.text


def test_a_failure_of_the_reading_goes_through() -> None:
    with pytest.raises(OSError, match="broken"), compiling_ahead(lambda: None):
        raise OSError("broken")
