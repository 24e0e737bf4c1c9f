"""How far a start or a recovery is, in the words of whoever is told: probes, clients, a service manager."""

from __future__ import annotations

import asyncio
import math

from kvik.server.errors import RETRY_AFTER_S
from kvik.server.systemd import ServiceManager
from kvik.telemetry.timeline import Timeline

MAX_RETRY_AFTER_S = 60
_TELL_INTERVAL_S = 1.0


def progress_of(status: str, timeline: Timeline) -> dict[str, object]:
    """What /ready says of a start or a recovery that goes on."""
    left_s = timeline.estimated_s_left
    rounded_s = None if left_s is None else round(left_s, 1)
    return {"status": status, "phase": timeline.current_phase, "estimated_s_left": rounded_s}


def retry_after_s(timeline: Timeline) -> int:
    """Whole seconds after which it makes sense to ask again."""
    left_s = timeline.estimated_s_left
    return RETRY_AFTER_S if left_s is None else min(MAX_RETRY_AFTER_S, max(1, math.ceil(left_s)))


def starting_text(timeline: Timeline) -> str:
    """ "starting (load weights); it should be ready in about 12 s"."""
    phase, left_s = timeline.current_phase, timeline.estimated_s_left
    doing = f" ({phase})" if phase else ""
    when = "" if left_s is None else f"; it should be ready in about {max(1, math.ceil(left_s))} s"
    return f"starting{doing}{when}"


async def tell_manager(manager: ServiceManager, timeline: Timeline) -> None:
    """Once a second, until the server is ready."""
    while manager.listens and timeline.is_starting:
        manager.starting(starting_text(timeline))
        await asyncio.sleep(_TELL_INTERVAL_S)
