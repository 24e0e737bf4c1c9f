"""Where requests go and what they look like on the wire: one HTTP/1.1 POST of an OpenAI-compatible API.

Sends nothing and knows no prompt's origin.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kvik.bench.datasets import Prompt
from kvik.errors import ConfigError

CHAT = "openai-chat"
BACKENDS = ("openai", CHAT, "vllm")
"""What a body looks like: `openai` and `vllm` are completions, `openai-chat` is one user message."""
DEFAULT_PATHS = {"openai": "/v1/completions", "vllm": "/v1/completions", CHAT: "/v1/chat/completions"}


@dataclass(frozen=True)
class Endpoint:
    """One server and the kind of request that it gets."""

    host: str
    port: int
    path: str
    """With its leading slash: "/v1/completions"."""
    backend: str
    """One of `BACKENDS`."""
    model: str
    """The name that requests carry."""
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sends_token_ids: bool = False
    """Prompts go out as token ids, which not every server takes, and not as text."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every request, such as sampling parameters; they win over our own."""

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """The JSON object that asks for `prompt.output_len` streamed tokens."""
        common = {"model": self.model, "max_tokens": prompt.output_len, "stream": True,
                  "stream_options": {"include_usage": True}}  # fmt: skip
        if self.backend == CHAT:
            return {**common, "messages": [{"role": "user", "content": prompt.text}], **self.extra_body}
        content = list(prompt.token_ids) if self.sends_token_ids else prompt.text
        return {**common, "prompt": content, **self.extra_body}

    def request(self, prompt: Prompt) -> bytes:
        """The whole POST, head and body. Each request has a connection of its own, which ends it."""
        body = json.dumps(self.body(prompt)).encode()
        head = {
            "Host": f"{self.host}:{self.port}", "Content-Type": "application/json", "Accept": "text/event-stream",
            "Content-Length": str(len(body)), "Connection": "close", **self.headers,
        }  # fmt: skip
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def split_base_url(url: str) -> tuple[str, int, str, bool]:
    """Host, port, path prefix and whether it is https. Raises `ConfigError` for what is no http(s) address."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as e:
        raise ConfigError(f"--base-url {url}: {e}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--base-url {url} is no address; write http://HOST:PORT")
    is_tls = parts.scheme == "https"
    return parts.hostname, port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls


def tls_context(is_verified: bool) -> ssl.SSLContext:
    """The usual checks of certificates, or none of them."""
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
