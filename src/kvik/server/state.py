"""What all handlers of one server share. Made once by `init_app_state`; holds no request."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from kvik import FIRST_LINE_S, __version__
from kvik.config import EngineConfig
from kvik.config.frontend import ServerConfig
from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError, UnknownModelError
from kvik.messages import LoraRequest
from kvik.server.adapters import AdapterRegistry
from kvik.telemetry.ledger import Account
from kvik.telemetry.start_estimate import Expectation
from kvik.telemetry.timeline import Timeline
from kvik.text.parsing.formats import AnswerFormats

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient
    from kvik.server.tracing.tracer import Tracer
    from kvik.text.tokenizer import Tokenizer


@dataclass(slots=True)
class ServerState:
    """The engine, what was asked of the server, and where the server is in its life."""

    client: EngineClient
    config: ServerConfig
    limits: RequestLimits = field(default_factory=RequestLimits)
    formats: AnswerFormats = field(default_factory=AnswerFormats)
    """How the model marks its reasoning and its calls of tools."""
    created_s: int = field(default_factory=lambda: int(time.time()))
    """Unix time; the `created` of the served models."""
    is_draining: bool = False
    """Going down: what runs may finish, nothing new is taken."""
    is_handing_over: bool = False
    """Going down, but what comes on the connections that are left is taken: new ones are for another server."""
    is_closed: bool = False
    """POST /drain: what runs may finish, nothing new is taken until POST /undrain."""
    num_in_flight: int = 0
    """Requests that are being worked on; counted only with --enable-server-load-tracking."""
    timeline: Timeline = field(default_factory=lambda: Timeline(FIRST_LINE_S, Expectation()))
    """How the server started, and how it replaced dead engines."""
    tracer: Tracer | None = None
    """Who is told of each request that has ended; None without --otlp-traces-endpoint."""
    fingerprint: str | None = None
    """`system_fingerprint` of answers."""
    adapters: AdapterRegistry = field(init=False)

    open_bodies: Account = field(init=False)
    """Bodies of requests that are read or worked on."""

    def __post_init__(self) -> None:
        self.adapters = AdapterRegistry(self.client)
        limit_bytes = self.limits.max_open_body_bytes
        self.open_bodies = self.client.ledger.account("bodies", limit_bytes, "--max-open-body-bytes")

    @property
    def model_names(self) -> tuple[str, ...]:
        return self.client.config.model.served_model_names

    @property
    def phase(self) -> str:
        """Where the server is in its life: "serving", "recovering", "draining" or "dead"."""
        if self.client.is_dead:
            return "dead"
        if self.is_draining or self.is_closed:
            return "draining"
        return "recovering" if self.client.is_recovering else "serving"

    @property
    def is_healthy(self) -> bool:
        return self.phase == "serving"

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises `InvalidRequestError` where the server runs without one."""
        tokenizer: Tokenizer | None = self.client.tokenizer
        if tokenizer is None:
            raise InvalidRequestError("this server runs without a tokenizer (--skip-tokenizer-init)")
        return tokenizer

    def fingerprint_of(self, lora: LoraRequest | None) -> str | None:
        """`system_fingerprint` of answers that an adapter took part in: a replaced adapter gives another."""
        if lora is None or self.fingerprint is None or self.config.fingerprint_mode == "custom":
            return self.fingerprint
        return f"{self.fingerprint}-{hashlib.sha256(repr(lora).encode()).hexdigest()[:8]}"

    @property
    def default_max_tokens(self) -> int | None:
        """Of an answer for which a client asks for nothing; None: what is left of the context."""
        most = self.config.default_sampling_params.get("max_tokens")
        return None if most is None else min(most, self.client.facts.max_model_len)

    def cap_max_tokens(self, asked: int | None) -> int | None:
        """What an answer may have where a client asks for `asked`; more than the context is left to its own refusal."""
        cap = self.config.max_tokens_cap
        if cap is None or asked is None or asked > self.client.facts.max_model_len:
            return asked
        return min(asked, cap)

    def permission_id(self, name: str) -> str:
        """Stable while the server lives."""
        return hashlib.sha256(f"{name} {self.created_s}".encode()).hexdigest()[:16]

    def check_model(self, name: str | None) -> str:
        """The name for the answer: an adapter's, else always the model's first one.

        Raises `UnknownModelError` for a name not served.
        """
        if (lora := self.adapters.find(name)) is not None:
            return lora.lora_name
        if name and name not in self.model_names:
            raise self.unknown_model(name)
        return self.model_names[0]

    def lora_of(self, name: str | None) -> LoraRequest | None:
        """The adapter of a name that `check_model` has just let through; None: the model itself.

        To be asked before anything is awaited: adapters come and go.
        """
        return self.adapters.find(name)

    def unknown_model(self, name: str) -> UnknownModelError:
        names = [*self.model_names, *(served.lora.lora_name for served in self.adapters.served)]
        return UnknownModelError(
            f"the model {name[:200]!r} does not exist; served here: {', '.join(names)[:1000]}", param="model"
        )


def state_of(request: Request) -> ServerState:
    return cast(ServerState, request.app.state.kvik)


def system_fingerprint(server: ServerConfig, engine: EngineConfig) -> str | None:
    """Changes when an answer to the same request and seed might, in the form of --fingerprint-mode."""
    digest = hashlib.sha256(repr((__version__, engine)).encode()).hexdigest()[:8]
    size = engine.parallel.tensor_parallel_size
    parallel = f"-tp{size}" if size > 1 else ""
    return {
        "full": f"kvik-{__version__}{parallel}-{digest}",
        "hash": digest,
        "custom": server.fingerprint_value,
        "none": None,
    }[server.fingerprint_mode]
