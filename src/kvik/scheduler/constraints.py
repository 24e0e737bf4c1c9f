"""Grammars in the scheduler's steps: prepared before a request waits, asked before its tokens are chosen.

Knows requests and the preparer of grammars; no queue, no block and no budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kvik.grammar.constraint import Constraint
from kvik.scheduler.draft import StepDraft
from kvik.scheduler.request import Request, RequestStatus


@dataclass(frozen=True, slots=True)
class GrammarWish:
    """What the preparer must know of a request."""

    compiled: str
    ending_ids: frozenset[int]
    """EOS and the stop token ids."""
    starts_after: list[int]
    prompt_token_ids: list[int]
    answer_token_ids: list[int]
    """Generated before: the answer goes on from here."""
    bounds_digits: bool
    """The answer is JSON, whose numbers are not to go on for ever."""


class GrammarPreparer(Protocol):
    """Makes constraints elsewhere, meanwhile."""

    def submit(self, request_id: str, wish: GrammarWish) -> None: ...

    def take_ready(self) -> list[tuple[str, Constraint | str]]:
        """Constraints, or what is wrong with them, by request id; each once."""


class Constraints:
    """`prepare` and `take_ready` before a request is queued, `write_masks` once a step is planned."""

    def __init__(self, preparer: GrammarPreparer) -> None:
        self._preparer = preparer

    def prepare(self, request: Request) -> None:
        wish = request.sampling_params.structured_outputs
        assert wish is not None
        eos = [] if request.eos_token_id is None else [request.eos_token_id]
        self._preparer.submit(
            request.request_id,
            GrammarWish(
                compiled=wish.compiled or "",
                ending_ids=request.stop_token_ids.union(eos),
                starts_after=list(wish.starts_after or ()),
                prompt_token_ids=request.token_ids[: request.num_prompt_tokens],
                answer_token_ids=request.token_ids[request.num_prompt_tokens :],
                bounds_digits=wish.bounds_digits,
            ),
        )

    def take_ready(self, requests: Mapping[str, Request]) -> Iterator[tuple[str, str | None]]:
        """Ids of requests whose grammar is there now, with None, or with what is wrong with it."""
        for request_id, made in self._preparer.take_ready():
            request = requests.get(request_id)
            if request is None or request.status is not RequestStatus.PREPARING:
                continue  # aborted meanwhile
            if isinstance(made, str):
                yield request_id, made
            else:
                request.constraint = made
                yield request_id, None

    def write_masks(self, draft: StepDraft) -> None:
        """Say in the plan which tokens may be chosen, for each request that gets some."""
        for request, share in draft.shares.items():
            if request.constraint is not None and request.num_awaited_tokens:
                share.token_masks = request.constraint.masks(share.draft_token_ids)


def constraint_param(request: Request) -> str | None:
    """The request's field that its grammar came from."""
    wish = request.sampling_params.structured_outputs
    return None if wish is None else wish.param


def constraint_error(request: Request, error: str = "", param: str | None = None) -> tuple[str, str | None]:
    """An error's message, and the request's field to blame: the grammar's own trouble goes before what it led to."""
    wish, constraint = request.sampling_params.structured_outputs, request.constraint
    if wish is None or constraint is None or constraint.error is None:
        return error, param
    return constraint.error, wish.param
