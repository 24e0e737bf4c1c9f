"""From a request and what it asks of the engine to a running generation, with all who hear of its end."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from kvik.server.generation import EngineCall, Generation
from kvik.server.request_log import RequestLog
from kvik.server.state import state_of
from kvik.server.tickets import ticket_of
from kvik.telemetry.request_times import RequestTimes, joined


async def start_generation(request: Request, call: EngineCall, log: RequestLog) -> Generation:
    """Raises what `Generation.start` raises. The log, and the trace if there is one, tell of the request's end."""
    state = state_of(request)

    def ended(prompts: Sequence[Sequence[RequestTimes]]) -> None:
        if not any(prompts):
            return
        times = joined(prompts)
        log.ended(call.request_id, times)
        if state.tracer is not None:
            model = state.model_names[0] if call.lora is None else call.lora.lora_name
            state.tracer.record(request.headers, call.request_id, model, call.params, times)

    log.received(call)
    return await Generation.start(state.client, call, ticket_of(request), ended)
