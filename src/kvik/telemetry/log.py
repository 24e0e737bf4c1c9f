"""Log lines of both processes: `(APIServer pid=7) INFO 11-22 17:30:00 [launcher.py:42] text`.

What is logged while a request is worked on has its id before the text: `[request 4f2a] text`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar
from typing import Any

_request_id: ContextVar[str] = ContextVar("request_id", default="")
"""For log lines only: a request is otherwise handed from one to the next as itself."""
_DATE_FORMAT = "%m-%d %H:%M:%S"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; call with `__name__`."""
    return logging.getLogger(name)


def mark_request(request_id: str) -> None:
    """Put this id into the log lines of the present task, and of those that it starts from now on."""
    _request_id.set(request_id)


def request_mark() -> str:
    """What stands before the text of a line: "" or "[request 4f2a] "."""
    request_id = _request_id.get()
    return f"[request {request_id}] " if request_id else ""


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
        fields = "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(request)s%(message)s"
        super().__init__(prefix + fields, _DATE_FORMAT)
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        """Repeat the prefix on every line, so that `grep` finds a traceback's lines with their process."""
        record.request = request_mark()
        return super().format(record).replace("\n", "\n" + self._prefix)


def log_once(logger: logging.Logger, level: int, message: str, *args: Any) -> None:
    """Log a message the first time only, per distinct text of this process."""
    text = message % args if args else message
    if text not in _LOGGED:
        _LOGGED.add(text)
        logger.log(level, text, stacklevel=2)


_LOGGED: set[str] = set()
