"""torch.compile beside what runs: before the engine is ready, or while it serves, and then used only if it is faster.

In the background another process fills the cache on disk, a thread loads what is there, and the two ways to compute
take turns, step by step, until it is known which is faster. Knows no architecture and no compiler: of the latter
nothing is imported before it is needed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch

from kvik.compilation.contest import Contest, Verdict
from kvik.layers.batch import ForwardBatch
from kvik.parallel.group import ALONE, Group
from kvik.runner.device import ForwardPass
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_SWITCH_S = 0.0005
"""How long the thread that loads may keep the interpreter from a step that wants it."""
_MS = 1000

Size = tuple[int, int]
"""Tokens and requests of a step."""


class Reply(Protocol):
    """How a compilation ended."""

    @property
    def seconds(self) -> float: ...
    @property
    def num_graphs(self) -> int: ...
    @property
    def num_from_cache(self) -> int: ...


class Filling(Protocol):
    """The process that fills the cache."""

    def reply(self) -> Reply | None:
        """None: it is still at work. Raises RuntimeError where nothing could be compiled."""


class Loading:
    """A compiled pass on its way, in a thread."""

    def __init__(self, load: Callable[[], ForwardPass]) -> None:
        self.loaded: ForwardPass | None = None
        self.error: Exception | None = None
        self._load = load
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._thread = threading.Thread(target=self._run, name="load compiled graphs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loaded = self._load()
        except Exception as error:  # told by whoever waits for the result
            self.error = error
        finally:
            sys.setswitchinterval(self._switch_s)

    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


class BackgroundCompilation:
    """`ForwardPass` of what runs, until what is compiled beside it has been found faster."""

    def __init__(
        self,
        running: ForwardPass,
        filling: Filling | None,
        load: Callable[[], ForwardPass],
        trials: Sequence[Callable[[], ForwardBatch]],
        *,
        prepare: Callable[[ForwardPass], bool] = lambda _: False,
        steps_contend: bool = True,
        synchronize: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
        group: Group = ALONE,
    ) -> None:
        """`load` gives the compiled pass, and is called in a thread; `trials` make batches for idle moments, which
        write nothing that anybody reads. `prepare` does a piece of what the compiled pass needs before it is compared,
        in an idle moment; whether there is more. `steps_contend`: whether steps are measured as well, which waits for
        them; else it is idle moments alone. `synchronize` waits for the device. `group`: workers that share the model,
        who compare in the same idle moments and come to one verdict; their steps cannot contend."""
        self.running = running
        """What has been the faster one so far."""
        self._last = running
        self._filling = filling
        self._load = load
        self._loading: Loading | None = None if filling is not None else Loading(load)
        self._trials = list(trials)
        self._prepare = prepare
        self._steps_contend = steps_contend
        self._synchronize = synchronize
        self._clock = clock
        self._group = group
        self._has_failed = False
        """Here. With other workers, all hear of it before anything ends."""
        self._challenger: ForwardPass | None = None
        self._contest = Contest()
        self.is_settled = False
        """Whether nothing will change any more."""

    @property
    def state(self) -> Literal["filling", "loading", "contest", "settled"]:
        if self.is_settled:
            return "settled"
        if self._challenger is not None:
            return "contest"
        return "loading" if self._filling is None else "filling"

    def wait_for_load(self) -> None:
        """Until the thread has ended, if there is one."""
        if self._loading is not None:
            self._loading.join()

    def all_passes(self) -> list[ForwardPass]:
        """What runs, and what is compared with it or about to be; waits for one that is being loaded."""
        self.wait_for_load()
        loaded = self._loading.loaded if self._loading is not None else None
        return [forward for forward in (self.running, self._challenger, loaded) if forward is not None]

    # --- steps ---------------------------------------------------------------------------------------

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        if not self.is_settled:
            self._advance()
        if self._challenger is None or not self._steps_contend or batch.lora_slots is not None:
            self._last = self.running
            return self.running.forward(batch)
        hidden = self._take_turn(self._challenger, batch)
        self._settle_if_known()
        return hidden

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self._last.logits(hidden, rows)

    def use_idle_time(self) -> bool:
        """Run a trial, if it is time for them. Whether there will be more to do."""
        if self.is_settled:
            return False
        self._advance()
        if self._group.any(self._has_failed):
            self._end()
        elif not self._group.any(self._challenger is None):
            assert self._challenger is not None
            self._try(self._challenger)
        return not self.is_settled

    def _try(self, challenger: ForwardPass) -> None:
        """A piece of what the challenger needs, or a trial of either."""
        if self._prepare(challenger):
            return
        batch = self._trials[0]()
        self._take_turn(challenger, batch)
        if self._contest.is_complete(_size_of(batch)):
            del self._trials[0]
        if not self._trials:
            self._settle_if_known()

    def _take_turn(self, challenger: ForwardPass, batch: ForwardBatch) -> torch.Tensor:
        size = _size_of(batch)
        by_challenger = self._contest.wants_challenger(size)
        self._last = challenger if by_challenger else self.running
        started = self._clock()
        hidden = self._last.forward(batch)
        self._synchronize()
        self._contest.add(size, self._clock() - started, by_challenger=by_challenger)
        return hidden

    # --- what goes on beside them --------------------------------------------------------------------

    def _advance(self) -> None:
        """From filling to loading to the contest."""
        try:
            if self._filling is not None and (reply := self._filling.reply()) is not None:
                self._filling = None
                log_compiled(reply)
                self._loading = Loading(self._load)
            if self._loading is not None and self._loading.has_ended():
                loading, self._loading = self._loading, None
                if loading.error is not None:
                    raise loading.error
                self._challenger = loading.loaded
        except Exception as error:  # whatever a compiler raises, requests are served
            warn_not_compiled(str(error))
            self._filling = self._loading = None
            self._has_failed = True
            if self._group.size == 1:
                self._end()

    def _settle_if_known(self) -> None:
        verdict = self._contest.verdict()
        if verdict is None or self._challenger is None:
            return
        is_faster = not self._group.any(not verdict.is_faster)
        if is_faster:
            self.running = self._challenger
        _log_verdict(verdict, is_faster=is_faster)
        self._end()

    def _end(self) -> None:
        self._filling = self._loading = self._challenger = None
        self.is_settled = True


def log_compiled(reply: Reply) -> None:
    logger.info(
        "torch.compile took %.2f s in total: %d graphs, %d of them from the cache",
        reply.seconds, reply.num_graphs, reply.num_from_cache,
    )  # fmt: skip


def warn_not_compiled(reason: str) -> None:
    logger.warning("torch.compile failed, so steps are computed as before: %s", reason)


def _log_verdict(verdict: Verdict, *, is_faster: bool) -> None:
    logger.info(
        "%s: a step takes %.2f ms by the compiled graph and %.2f ms by what ran before, %.2f times as long over all "
        "sizes that were measured.",
        "The compiled graph is faster and used from now on" if is_faster
        else "The compiled graph is not faster and not used",
        verdict.challenger_s * _MS, verdict.holder_s * _MS, verdict.ratio,
    )  # fmt: skip


def _size_of(batch: ForwardBatch) -> Size:
    return batch.token_ids.shape[0], batch.seq_lens.shape[0]
