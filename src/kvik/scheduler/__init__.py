"""Which tokens of which requests are computed next, and when a request is over. Knows no tensor and no text."""

from kvik.scheduler.request import Request, RequestStatus
from kvik.scheduler.scheduler import Scheduler

__all__ = ["Request", "RequestStatus", "Scheduler"]
