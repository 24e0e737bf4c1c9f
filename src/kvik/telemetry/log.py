"""Log lines of both processes: `(APIServer pid=7) INFO 11-22 17:30:00 [launcher.py:42] text`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

_DATE_FORMAT = "%m-%d %H:%M:%S"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; call with `__name__`."""
    return logging.getLogger(name)


def configure_logging(process_name: str, level: str = "INFO") -> None:
    """Send kvik's log lines to stderr, each one prefixed with the process that wrote it.

    `level` is a name of the `logging` module. Loggers of other packages are left alone.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ProcessFormatter(process_name))
    logger = logging.getLogger("kvik")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


class _ProcessFormatter(logging.Formatter):
    def __init__(self, process_name: str) -> None:
        prefix = f"({process_name} pid={os.getpid()}) "
        super().__init__(f"{prefix}%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s", _DATE_FORMAT)
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        """Repeat the prefix on every line, so that `grep` finds a traceback's lines with their process."""
        return super().format(record).replace("\n", "\n" + self._prefix)


def log_once(logger: logging.Logger, level: int, message: str, *args: Any) -> None:
    """Log a message the first time only, per distinct text of this process."""
    text = message % args if args else message
    if text not in _LOGGED:
        _LOGGED.add(text)
        logger.log(level, text, stacklevel=2)


_LOGGED: set[str] = set()
