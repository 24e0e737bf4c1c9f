"""Every error that kvik raises on purpose.

    KvikError
    ├── ConfigError                    what was asked of the server cannot be: a flag, a value, a path
    │   └── NotSupportedYetError       the flag is known, its feature is not built yet
    ├── ModelFileError                 the checkpoint is missing, broken or of an unknown kind
    │   └── UnsupportedArchitectureError
    ├── InsufficientMemoryError        the machine cannot hold what was asked
    ├── RequestError                   a client's request cannot be served; carries the HTTP status
    │   ├── InvalidRequestError        400: a field is wrong; `param` names it
    │   ├── UnknownModelError          404: no such model here
    │   ├── SlowReaderError            408: an answer was not read; seen at the end of its stream
    │   ├── QueueFullError             429: not before others have ended
    │   └── OverloadedError            503: not now
    │       └── RecoveringError        503: in a few seconds, when the engine is back
    └── EngineError                    our fault
        ├── EngineDeadError            the engine process is gone
        ├── WireError                  a message between the processes cannot be read
        └── EngineRequestError         one request failed inside the engine; its neighbours go on
            └── ConstraintError        because of what the request itself demands; a 400, though it may come late

The first three end a start: the door prints the message, without a traceback, and exits. `RequestError`
becomes an answer in the OpenAI error shape. Every message says what was wrong, what would be right and
what to do.
"""

from __future__ import annotations


class KvikError(Exception):
    """Root of the tree."""


class ConfigError(KvikError):
    """A flag or a combination of flags cannot be honoured."""


class NotSupportedYetError(ConfigError):
    """A flag of the interface whose feature kvik does not have yet."""

    def __init__(self, flag: str, instead: str = "") -> None:
        """`instead`: what is possible, in words that end the sentence."""
        super().__init__(f"not supported yet: {flag}" + (f"; {instead}" if instead else ""))
        self.flag = flag


class ModelFileError(KvikError):
    """The checkpoint is missing, truncated, inconsistent or of an unknown kind."""


class UnsupportedArchitectureError(ModelFileError):
    """The checkpoint is sound, but no model here implements its architecture."""


class InsufficientMemoryError(KvikError):
    """Weights or KV cache do not fit; the message names needed, available and the flag that would fit."""


class RequestError(KvikError):
    """A request that cannot be served.

    `status` is the HTTP status, `param` the offending field (dotted path), or None.
    """

    status = 400
    type = "BadRequestError"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequestError(RequestError):
    """A field has a wrong type, range or combination."""


class UnknownModelError(RequestError):
    """The request names a model that is not served."""

    status = 404
    type = "NotFoundError"


class SlowReaderError(RequestError):
    """An answer was not read while it was made."""

    status = 408
    type = "RequestTimeoutError"


class QueueFullError(RequestError):
    """The request waits, or would wait, for longer or with more others than is allowed; the client may try again."""

    status = 429
    type = "RateLimitError"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        """`retry_after_s`: when that is worth while; None: not known."""
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(RequestError):
    """The request ran when the time that its client gave it was over."""

    status = 408
    type = "RequestTimeoutError"


class OverloadedError(RequestError):
    """The server is going down; the client may try another one."""

    status = 503
    type = "ServiceUnavailableError"


class RecoveringError(OverloadedError):
    """The engine has died and is being started again."""


class EngineError(KvikError):
    """The engine failed, not the client."""


class EngineCallError(EngineError):
    """The engine refused what an operator asked of it, or could not do it; the message says why."""


class EngineDeadError(EngineError):
    """The engine process has ended; no request can be served any more."""


class WireError(EngineError):
    """A frame from the other process is not a message; `request_id` is whose it was, if that much can be read."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class EngineRequestError(EngineError):
    """One request failed inside the engine; the others are untouched."""


class ConstraintError(EngineRequestError):
    """A request's own demands, such as its grammar, leave the engine no way on. `param` is as in `RequestError`."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param
