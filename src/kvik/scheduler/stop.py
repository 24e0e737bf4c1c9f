"""Whether a request is over with its newest token. Knows token ids only; stop strings are the front end's."""

from __future__ import annotations

from kvik.sampling_params import RepetitionDetection
from kvik.scheduler.repetition import ends_in_repetition
from kvik.scheduler.request import Request, RequestStatus

Stop = tuple[RequestStatus, int | str | None]
"""Final status and stop reason."""
REPETITION = "repetition_detected"


def check_stop(request: Request) -> Stop | None:
    """How the newest token ends the request, or None.

    The first that holds counts: EOS (no stop reason), a stop token id (which is the reason), the end of what the
    request's grammar allows, the length, an unwanted repetition. `min_tokens` binds the last alone:
    the sampler masks EOS and the stop token ids until then. Advances the grammar, so it is called once per token.
    """
    token_id = request.token_ids[-1]
    if token_id == request.eos_token_id:
        return RequestStatus.FINISHED_STOPPED, None
    if token_id in request.stop_token_ids:
        return RequestStatus.FINISHED_STOPPED, token_id
    if (constraint := request.constraint) is not None:
        if not constraint.advance(token_id):
            return RequestStatus.FINISHED_ERROR, None
        if constraint.is_complete:
            return RequestStatus.FINISHED_STOPPED, None
    if len(request.token_ids) >= request.max_tokens_in_all:
        return RequestStatus.FINISHED_LENGTH_CAPPED, None
    unwanted = request.sampling_params.repetition_detection
    if unwanted is not None and _repeats_itself(request, unwanted):
        return RequestStatus.FINISHED_REPETITION, REPETITION
    return None


def _repeats_itself(request: Request, unwanted: RepetitionDetection) -> bool:
    if request.num_output_tokens < request.sampling_params.min_tokens:
        return False
    return ends_in_repetition(request.token_ids, request.num_prompt_tokens, unwanted)


def append_until_stop(request: Request, token_ids: list[int]) -> tuple[int, Stop | None]:
    """Give the request the tokens of a step in their order, up to one that ends it.

    Returns how many it got, and what `check_stop` said of the last one.
    """
    for num_taken, token_id in enumerate(token_ids, start=1):
        request.token_ids.append(token_id)
        if (stop := check_stop(request)) is not None:
            return num_taken, stop
    return len(token_ids), None
