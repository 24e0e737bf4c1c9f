from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from kvik.telemetry.log import configure_logging, get_logger, log_once


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("kvik")
    before = (logger.handlers, logger.level, logger.propagate)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_every_line_names_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("APIServer")
    get_logger("kvik.x").info("one\ntwo")
    first, second = capsys.readouterr().err.splitlines()
    prefix = f"(APIServer pid={os.getpid()}) "
    assert first.startswith(prefix + "INFO ")
    assert first.endswith("one")
    assert second == prefix + "two"


def test_the_level_and_other_packages(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("APIServer", "WARNING")
    get_logger("kvik.x").info("quiet")
    get_logger("kvik.x").warning("loud")
    assert "quiet" not in (err := capsys.readouterr().err)
    assert "loud" in err
    assert logging.getLogger("other").handlers == []


def test_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("kvik_test_once")
    for _ in range(3):
        log_once(logger, logging.WARNING, "only %d", 1)
    assert caplog.messages == ["only 1"]
