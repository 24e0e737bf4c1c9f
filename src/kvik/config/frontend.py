"""What was asked of the HTTP server: one field per flag, frozen. Knows neither the engine nor HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvik.config.access import AccessConfig
from kvik.config.admission import AdmissionConfig
from kvik.config.connections import ConnectionConfig
from kvik.config.flags import flag
from kvik.config.limits import RequestLimits
from kvik.config.recovery import RecoveryConfig

GENERAL = "General"
"""The group of the flags that concern the process rather than the API."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Flags of the front end. Raises `ConfigError` from `create_server_config` (args.py), not from here."""

    host: str | None = flag(None, "address to listen on; unset: all interfaces", common=True)
    port: int = flag(8000, "TCP port", common=True)
    uds: str | None = flag(None, "listen on this Unix socket; host and port are not used", common=True)
    api_key: tuple[str, ...] = flag(
        (), "accepted keys, one or more (also KVIK_API_KEY); shown as *** in logs", common=True
    )
    allowed_origins: tuple[str, ...] = flag((), "CORS: origins, a JSON list", kind="json_list", common=True)
    allowed_methods: tuple[str, ...] = flag(("*",), "CORS: methods, a JSON list", kind="json_list")
    allowed_headers: tuple[str, ...] = flag(("*",), "CORS: request headers, a JSON list", kind="json_list")
    allow_credentials: bool = flag(False, "CORS: let browsers send credentials")
    root_path: str | None = flag(None, "URL prefix that a proxy in front strips")
    ssl_keyfile: str | None = flag(None, "TLS private key, a PEM file")
    ssl_certfile: str | None = flag(None, "TLS certificate, a PEM file")
    ssl_ca_certs: str | None = flag(None, "certificates that client certificates are checked against")
    ssl_cert_reqs: int = flag(0, "client certificates: 0 not asked for, 1 optional, 2 required")
    ssl_ciphers: str | None = flag(None, "ciphers for TLS 1.2 and below, in OpenSSL's notation")

    lora_modules: tuple[str, ...] = flag(
        (), "adapters that are there from the start: name=path, or JSON objects with name, path and base_model_name; "
        "needs --enable-lora", common=True,
    )  # fmt: skip

    chat_template: str | None = flag(
        None, "Jinja chat template: a file, or the template itself; replaces the model's", common=True
    )
    """The template's text: a file named on the command line has been read by then."""
    chat_template_content_format: str = flag(
        "auto",
        "how templates get a message's content: as a string, or as a list of parts",
        choices=("auto", "string", "openai"),
    )
    trust_request_chat_template: bool = flag(False, "accept a chat template that comes with a request")
    default_chat_template_kwargs: dict[str, Any] | None = flag(  # noqa: RUF009
        None, "template variables that requests need not set, a JSON object"
    )
    enable_auto_tool_choice: bool = flag(
        False, "let the model decide to call tools (tool_choice auto); needs --tool-call-parser", common=True
    )
    exclude_tools_when_tool_choice_none: bool = flag(False, "tool_choice none: leave the tools out of the prompt")
    tool_call_parser: str | None = flag(
        None, "how the model writes calls of tools: hermes, llama3_json, ...; an unknown name lists all", common=True
    )
    tool_parser_plugin: str = flag("", "Python file with more such parsers, in a dict TOOL_PARSERS")
    tool_strict_level: str = flag(
        "auto",
        "what is enforced of calls that the model begins itself: auto: the arguments of tools with strict; function: "
        "names too; parameter: all arguments",
        choices=("auto", "function", "parameter"),
    )
    response_role: str = flag("assistant", "role of the answer")
    anthropic_disabled_thinking_effort: str = flag(
        "auto",
        "effort where a Messages request turns thinking off; auto: the template is told to leave it out",
        choices=("auto", "high", "low", "max", "medium", "none", "xhigh"),
    )
    return_tokens_as_token_ids: bool = flag(False, "logprobs name tokens as token_id:N")
    max_log_len: int | None = flag(None, "prompt characters, or ids, per log line; unset: all", kind="size")
    enable_prompt_tokens_details: bool = flag(False, "fill usage.prompt_tokens_details")
    enable_per_request_metrics: bool = flag(False, "timings in each response; needs log stats")
    enable_server_load_tracking: bool = flag(False, "let /load count the requests in flight")
    enable_force_include_usage: bool = flag(False, "usage in every stream, asked for or not")
    sse_keep_alive_interval: int = flag(0, "seconds between comment lines in a silent stream; 0: none")
    tokens_only: bool = flag(
        False, "of the routes that generate, serve only those that take and give token ids (--enable-scale-out's)"
    )
    enable_scale_out: bool = flag(
        False, "serve /inference/v1/generate and the render and derender routes, for a front end elsewhere"
    )
    enable_tokenizer_info_endpoint: bool = flag(False, "serve /tokenizer_info")
    enable_log_outputs: bool = flag(False, "log answers too; needs --enable-log-requests")
    enable_log_deltas: bool = flag(True, "with --enable-log-outputs: log each piece of a stream, not only its end")
    log_error_stack: bool = flag(False, "log the traceback of error responses")
    fingerprint_mode: str = flag("full", "form of system_fingerprint", choices=("full", "hash", "custom", "none"))
    fingerprint_value: str | None = flag(None, "the fingerprint of --fingerprint-mode custom")
    uvicorn_log_level: str = flag(
        "info",
        "log level of the HTTP server",
        choices=("critical", "error", "warning", "info", "debug", "trace"),
    )
    disable_uvicorn_access_log: bool = flag(False, "no line per HTTP request")
    disable_access_log_for_endpoints: str | None = flag(None, "paths without such lines, separated by commas")
    enable_request_id_headers: bool = flag(False, "X-Request-Id on responses")
    disable_fastapi_docs: bool = flag(False, "no OpenAPI, Swagger and ReDoc pages")
    h11_max_incomplete_event_size: int = flag(4194304, "bytes that an HTTP request's head may have", kind="size")
    h11_max_header_count: int = flag(256, "headers that an HTTP request may have")
    max_stored_responses: int = flag(1000, "/v1/responses: responses that are stored; 0: none", ours=True)
    max_stored_responses_bytes: int = flag(
        268435456, "/v1/responses: bytes that stored responses may have", kind="size", ours=True
    )
    stored_responses_max_age: int = flag(86400, "/v1/responses: seconds that responses are stored", ours=True)
    max_background_responses: int = flag(
        64, "/v1/responses: responses that are made in the background at a time", ours=True
    )

    reasoning_parser: str = flag(
        "",
        "how the model marks its reasoning: deepseek_r1, qwen3, granite, ...; an unknown name lists all",
        group="StructuredOutputsConfig",
        common=True,
    )
    reasoning_parser_plugin: str = flag(
        "", "Python file with more such parsers, in a dict REASONING_PARSERS", group="StructuredOutputsConfig"
    )

    disable_log_stats: bool = flag(
        False, "no periodic log line and no metrics of the engine", group=GENERAL, kind="switch", common=True
    )
    shutdown_timeout: int = flag(
        30, "seconds that running requests get to finish on SIGTERM; 0: abort them at once", group=GENERAL
    )
    startup_trace: str | None = flag(
        None, "write the phases of the start to this file, as a trace for Perfetto or chrome://tracing", group=GENERAL,
        ours=True,
    )  # fmt: skip
    enable_log_requests: bool = flag(False, "log each request", group=GENERAL, common=True)

    otlp_traces_endpoint: str | None = flag(
        None, "send a trace of each request to this OpenTelemetry collector: a URL; needs kvik[tracing]",
        group="ObservabilityConfig",
    )  # fmt: skip
    metrics_prefix: str = flag(
        "kvik:,vllm:",
        "how names of metrics begin: one prefix, or several separated by commas to show each metric under all of them",
        group="ObservabilityConfig", ours=True,
    )  # fmt: skip
    custom_histogram_buckets: dict[str, Any] | None = flag(  # noqa: RUF009
        None, "upper bounds for families of histograms, a JSON object: see docs/metrics.md", group="ObservabilityConfig"
    )

    dev_mode: bool = False
    """Routes for operators, open to whoever reaches the port (KVIK_SERVER_DEV_MODE). No flag."""

    default_sampling_params: dict[str, Any] = field(default_factory=dict)
    """What requests leave out and the model's generation_config.json, or --override-generation-config, sets:
    names of `SamplingParams` (temperature, top_p, top_k, min_p, repetition_penalty, max_tokens). No flag."""
    max_tokens_cap: int | None = None
    """The most tokens of any answer: max_new_tokens of a generation config that an operator gave. No flag."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    connections: ConnectionConfig = field(default_factory=ConnectionConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    """Flags of their own."""

    @property
    def has_keys(self) -> bool:
        """Whether requests must bring one."""
        return bool(self.api_key) or self.access.api_key_file is not None
