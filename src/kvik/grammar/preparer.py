"""Constraints made in a thread of their own, so that the engine's loop never waits for a grammar.

llguidance is loaded and the vocabulary read in the engine's first idle moment, or when the first one is asked for.
Knows no queue: requests are ids.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from kvik.config import ModelConfig
from kvik.errors import EngineRequestError, KvikError
from kvik.grammar.constraint import Constraint
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.grammar.matchers import Matchers

logger = get_logger(__name__)


class Wish(Protocol):
    """What a `Constraint` is made of."""

    @property
    def compiled(self) -> str: ...
    @property
    def ending_ids(self) -> frozenset[int]: ...
    @property
    def starts_after(self) -> list[int]: ...
    @property
    def prompt_token_ids(self) -> list[int]: ...
    @property
    def answer_token_ids(self) -> list[int]: ...
    @property
    def bounds_digits(self) -> bool: ...


class Preparer:
    """All methods are for the engine's thread; what they start happens in another."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._matchers: Matchers | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self.is_warm = False
        """The vocabulary is there, or on its way."""
        self._num_pending = 0
        """Submitted and not taken yet."""
        self._ready: list[tuple[str, Constraint | str]] = []
        self._lock = threading.Lock()
        self._news = threading.Event()

    def warm_up(self) -> None:
        """Read the vocabulary now, which holds the interpreter's lock for a while; only the first call does it."""
        if not self.is_warm:
            self.is_warm = True
            self._thread.submit(self._warm_up)

    def submit(self, request_id: str, wish: Wish) -> None:
        """Make a constraint; `take_ready` will have it."""
        self.is_warm = True
        self._num_pending += 1
        self._thread.submit(self._prepare, request_id, wish)

    def take_ready(self) -> list[tuple[str, Constraint | str]]:
        """Request ids with their constraints, or with what is wrong with them, once."""
        if self._num_pending == 0:
            return []
        with self._lock:
            ready, self._ready = self._ready, []
            self._news.clear()
        self._num_pending -= len(ready)
        return ready

    def wait(self, timeout_s: float) -> None:
        """Until something is ready, or for `timeout_s`; not at all where nothing was submitted."""
        if self._num_pending:
            self._news.wait(timeout_s)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, request_id: str, wish: Wish) -> None:
        made: Constraint | str
        try:
            made = self._make(wish)
        except KvikError as error:
            made = str(error)
        except Exception as error:
            made = f"its grammar could not be prepared: {type(error).__name__}: {error}"
        with self._lock:
            self._ready.append((request_id, made))
            self._news.set()

    def _warm_up(self) -> None:
        try:
            self._load()
        except Exception as error:  # the first request that needs it will meet and report it
            logger.debug("the vocabulary for grammars could not be read ahead: %s", error)

    def _load(self) -> Matchers:
        if self._matchers is None:
            from kvik.grammar.matchers import Matchers

            self._matchers = Matchers(self._model)
        return self._matchers

    def _make(self, wish: Wish) -> Constraint:
        matchers = self._load()
        matcher, digits = matchers.matcher(wish.compiled), matchers.digits if wish.bounds_digits else None
        vocab_size = self._model.spec.vocab_size
        constraint = Constraint(matcher, vocab_size, wish.ending_ids, wish.starts_after, wish.prompt_token_ids, digits)
        for token_id in wish.answer_token_ids:
            if not constraint.advance(token_id):
                raise EngineRequestError(f"what was generated before does not follow its grammar: {constraint.error}")
        return constraint
