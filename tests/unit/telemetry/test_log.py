from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest

from kvik.telemetry.log import configure_logging, get_logger, log_once, mark_request, request_mark


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


def test_lines_about_a_request_have_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("APIServer")

    async def handle(request_id: str) -> None:
        mark_request(request_id)
        await asyncio.sleep(0)
        get_logger("kvik.x").info("mine")
        await asyncio.create_task(helper())

    async def helper() -> None:
        get_logger("kvik.x").info("its helper's")

    async def both() -> None:
        await asyncio.gather(handle("4f2a"), handle("77"))
        get_logger("kvik.x").info("nobody's")

    asyncio.run(both())
    lines = [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert sorted(lines[:2]) == ["[request 4f2a] mine", "[request 77] mine"]
    assert sorted(lines[2:4]) == ["[request 4f2a] its helper's", "[request 77] its helper's"]
    assert lines[4] == "nobody's"
    assert request_mark() == ""


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
