"""Which key a route needs: one table, from method and path to a scope. Knows neither keys nor requests.

A path that is not in the table needs an admin's key, so a route that is added later is closed until it gets its line
here; below /v1 and /inference, where clients mistype, such a path needs a key for inference and gets its 404.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Scope = Literal["infer", "metrics", "admin"]
"""What a key may do."""
Need = Literal["open", "any", "infer", "metrics", "admin"]
"""What a route asks for; open: no key, any: whichever."""

SCOPES: tuple[Scope, ...] = ("infer", "metrics", "admin")

_EXACT: dict[str, Need] = {
    # Probes: asked by machines without keys, and they tell no more than a status.
    "/health": "open",
    "/live": "open",
    "/ready": "open",
    "/ping": "open",
    "/ui": "open",  # files without data
    # What the program is.
    "/version": "any",
    "/startup": "any",
    "/docs": "any",
    "/redoc": "any",
    "/openapi.json": "any",
    "/load": "metrics",
    "/plan": "metrics",
    "/metrics": "metrics",
    # Generation, and what clients need for it.
    "/v1/models": "infer",
    "/v1/chat/completions": "infer",
    "/v1/chat/completions/batch": "infer",
    "/v1/chat/completions/render": "infer",
    "/v1/chat/completions/derender": "infer",
    "/v1/completions": "infer",
    "/v1/completions/render": "infer",
    "/v1/completions/derender": "infer",
    "/v1/messages": "infer",
    "/v1/messages/count_tokens": "infer",
    "/v1/responses": "infer",
    "/inference/v1/generate": "infer",
    "/generative_scoring": "infer",
    "/invocations": "infer",
    "/v1/abort": "infer",  # of requests whose ids one knows
    "/tokenize": "infer",
    "/detokenize": "infer",
    "/tokenizer_info": "infer",
    "/kv_event_sources": "infer",
    # What changes the server, ends other people's requests, or tells how it was started.
    "/v1/load_lora_adapter": "admin",
    "/v1/unload_lora_adapter": "admin",
    "/inference/v1/abort_requests": "admin",
    "/abort_requests": "admin",
    "/drain": "admin",
    "/undrain": "admin",
    "/reset_prefix_cache": "admin",
    "/reset_mm_cache": "admin",
    "/reset_encoder_cache": "admin",
    "/release_kv_cache_memory": "admin",
    "/server_info": "admin",
    "/debug/requests": "admin",
    "/sleep": "admin",
    "/wake_up": "admin",
    "/is_sleeping": "admin",
    "/pause": "admin",
    "/resume": "admin",
    "/is_paused": "admin",
    "/collective_rpc": "admin",
}
_BELOW: tuple[tuple[str, Need], ...] = (
    ("/metrics", "metrics"),
    ("/ui/", "open"),
    ("/v1/models/", "infer"),
    ("/v1/responses/", "infer"),
)
"""Routes with a parameter in their path; /metrics takes whatever follows."""
_MISTYPED = ("/v1/", "/inference/")


def need_of(path: str, opened: Collection[str] = ()) -> Need:
    """What `path`, without the prefix of --root-path, asks for; `opened` are the --open-paths.

    The method does not matter: there is no path whose methods differ in what they may do.
    """
    if path in opened:
        return "open"
    named = named_need(path)
    if named is not None:
        return named
    return "infer" if path.startswith(_MISTYPED) else "admin"


def named_need(path: str) -> Need | None:
    """What the table says; None where it does not know the path."""
    if path in _EXACT:
        return _EXACT[path]
    return next((need for prefix, need in _BELOW if path.startswith(prefix)), None)


def is_enough(need: Need, scopes: Collection[Scope]) -> bool:
    """Whether a key with `scopes` may go where `need` is asked for."""
    return need in ("open", "any") or need in scopes
