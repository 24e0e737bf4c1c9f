"""The ASGI application: routes, middleware, and what they share. Knows neither sockets nor processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response

from kvik import __version__
from kvik.config import env
from kvik.config.frontend import ServerConfig
from kvik.config.limits import RequestLimits
from kvik.server import basic, drain, lora, models, tokenize
from kvik.server.abort import AbortOwnRequest, abort_own_requests
from kvik.server.access.configured import keys_of
from kvik.server.chat.batch import BatchChatCompletionRequest, create_chat_completion_batch
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.chat.serving import create_chat_completion
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.completions.serving import create_completion
from kvik.server.dev.routes import add_dev_routes
from kvik.server.docs_page import add_docs_routes
from kvik.server.formats import formats_of
from kvik.server.generative_scoring import GenerativeScoringRequest, generative_scoring
from kvik.server.invocations import InvocationRequest, invocations
from kvik.server.live_requests import live_requests
from kvik.server.messages_api.protocol import CountTokensRequest, MessagesRequest
from kvik.server.messages_api.serving import count_tokens, create_message
from kvik.server.middleware.admission import AdmissionMiddleware
from kvik.server.middleware.auth import AdminSocketMiddleware, AuthenticationMiddleware
from kvik.server.middleware.docs_headers import DocsHeadersMiddleware
from kvik.server.middleware.error_boundary import ErrorBoundaryMiddleware, framework_error
from kvik.server.middleware.http_metrics import HttpMetricsMiddleware
from kvik.server.middleware.request_id import RequestIdMiddleware
from kvik.server.middleware.root_path import RootPathMiddleware
from kvik.server.openapi import describe_routes, request_body
from kvik.server.plan import plan
from kvik.server.responses_api.routes import add_responses_routes
from kvik.server.scale_out.routes import add_scale_out_routes
from kvik.server.startup import startup
from kvik.server.state import ServerState, system_fingerprint
from kvik.server.tickets import TicketMiddleware
from kvik.server.ui import ui, ui_file
from kvik.server.validation import RequestModel
from kvik.telemetry.http_metrics import HttpMetrics
from kvik.telemetry.ledger_metrics import LedgerMetrics
from kvik.telemetry.log import get_logger

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient

logger = get_logger(__name__)


def init_app_state(client: EngineClient, config: ServerConfig, limits: RequestLimits | None = None) -> ServerState:
    """What the handlers share. The engine must be ready."""
    state = ServerState(client=client, config=config, limits=limits or config.limits)
    state.formats = formats_of(config)
    state.fingerprint = system_fingerprint(config, client.config)
    return state


def build_app(state: ServerState, registry: CollectorRegistry = REGISTRY) -> FastAPI:
    """The application. `registry` holds the metrics that GET /metrics shows; HTTP metrics are added to it."""
    config = state.config
    # Nothing of a request leaves this process. Versions of FastAPI without these switches ignore them.
    silence: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
    app = FastAPI(
        title="kvik",
        version=__version__,
        middleware=_middleware(state, registry),
        exception_handlers={HTTPException: framework_error},
        telemetry=silence,
        openapi_url=None if config.disable_fastapi_docs else "/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.kvik = state
    app.state.registry = registry
    LedgerMetrics(registry, state.client.ledger, state.model_names[0])
    _add_routes(app, config)
    if not config.disable_fastapi_docs:
        add_docs_routes(app)
    describe_routes(app)
    return app


def _middleware(state: ServerState, registry: CollectorRegistry) -> list[Middleware]:
    """Outermost first. Metrics see every answer; the id is on every answer; CORS answers preflights before keys."""
    config = state.config
    stack = [Middleware(HttpMetricsMiddleware, metrics=HttpMetrics(registry))]
    if config.root_path and config.root_path.strip("/"):
        stack.insert(0, Middleware(RootPathMiddleware, root_path=config.root_path))
    stack.append(Middleware(RequestIdMiddleware, on_all=config.enable_request_id_headers))
    if config.allowed_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=config.allowed_origins,
                allow_methods=config.allowed_methods,
                allow_headers=config.allowed_headers,
                allow_credentials=config.allow_credentials,
            )
        )
    stack.append(Middleware(ErrorBoundaryMiddleware, log_stacks=config.log_error_stack))
    if config.has_keys:
        stack.append(Middleware(AuthenticationMiddleware, keys=keys_of(config), open_paths=config.access.open_paths))
    if config.access.admin_uds is not None:
        stack.append(Middleware(AdminSocketMiddleware))
    if not config.disable_fastapi_docs:
        stack.append(Middleware(DocsHeadersMiddleware))
    stack.append(Middleware(AdmissionMiddleware, state=state))
    header = config.admission.fair_share_header
    stack.append(Middleware(TicketMiddleware, check_hope=state.client.check_hope, fair_share_header=header))
    return stack


def _add_routes(app: FastAPI, config: ServerConfig) -> None:
    def get(path: str, handler: Any, **options: Any) -> None:
        app.add_api_route(path, handler, methods=["GET"], **options)

    def post(path: str, handler: Any, body: type[RequestModel]) -> None:
        app.add_api_route(path, handler, methods=["POST"], openapi_extra=request_body(body))

    get("/health", basic.health, response_class=Response)
    get("/ping", basic.health, response_class=Response)
    app.add_api_route("/ping", basic.health, methods=["POST"], response_class=Response)
    get("/live", basic.live)
    get("/ready", basic.ready)
    get("/startup", startup)
    get("/plan", plan)
    get("/debug/requests", live_requests)
    get("/load", basic.load)
    get("/version", basic.version)
    get("/metrics", basic.metrics, response_class=PlainTextResponse)
    get("/metrics{rest:path}", basic.metrics, include_in_schema=False)
    for path, handler in (("/ui", ui), ("/ui/{name:path}", ui_file)):
        app.add_api_route(path, handler, methods=["GET", "HEAD"], include_in_schema=False)
    get("/v1/models", models.list_models)
    get("/v1/models/{model_id:path}", models.retrieve_model)
    post("/tokenize", tokenize.tokenize, tokenize.TokenizeRequest)
    post("/detokenize", tokenize.detokenize, tokenize.DetokenizeRequest)
    if config.enable_tokenizer_info_endpoint:
        get("/tokenizer_info", tokenize.tokenizer_info)
    if not config.tokens_only:
        post("/v1/chat/completions", create_chat_completion, ChatCompletionRequest)
        post("/v1/completions", create_completion, CompletionRequest)
        post("/generative_scoring", generative_scoring, GenerativeScoringRequest)
        post("/invocations", invocations, InvocationRequest)
        add_responses_routes(app, config)
        _add_messages_routes(post)
        post("/v1/chat/completions/batch", create_chat_completion_batch, BatchChatCompletionRequest)
    post("/v1/abort", abort_own_requests, AbortOwnRequest)

    _add_lora_routes(app, config)
    if config.has_keys or config.dev_mode or config.access.admin_uds is not None:
        app.add_api_route("/drain", drain.drain, methods=["POST"])
        app.add_api_route("/undrain", drain.undrain, methods=["POST"])
    get("/kv_event_sources", basic.kv_event_sources)
    add_scale_out_routes(app, config)
    if config.dev_mode:
        add_dev_routes(app)


def _add_messages_routes(post: Callable[[str, Any, type[RequestModel]], None]) -> None:
    post("/v1/messages", create_message, MessagesRequest)
    post("/v1/messages/count_tokens", count_tokens, CountTokensRequest)


def _add_lora_routes(app: FastAPI, config: ServerConfig) -> None:
    if not env.allows_runtime_lora_updating():
        return
    if not config.access.allowed_lora_path:
        logger.warning(
            "Clients may load adapters from any folder that this process can read; --allowed-lora-path confines them"
        )
    for path, handler, body in (
        ("/v1/load_lora_adapter", lora.load_lora_adapter, lora.LoadLoraAdapterRequest),
        ("/v1/unload_lora_adapter", lora.unload_lora_adapter, lora.UnloadLoraAdapterRequest),
    ):
        app.add_api_route(path, handler, methods=["POST"], openapi_extra=request_body(body))


def route_lines(app: FastAPI) -> list[str]:
    """One line per route for the log."""
    routes = [(getattr(route, "path", ""), getattr(route, "methods", None) or ()) for route in app.routes]
    return [f"Route: {path}, Methods: {', '.join(sorted(methods))}" for path, methods in routes]
