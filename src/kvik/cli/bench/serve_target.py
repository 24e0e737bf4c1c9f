"""Which server `kvik bench serve` measures, what it calls its model, and whose tokenizer makes the prompts.

Asks a server for its list of models where the flags leave that open, and nothing else.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvik.bench.endpoint import DEFAULT_PATHS, Endpoint, split_base_url, tls_context
from kvik.cli.bench.serve_args import ServeBenchArgs
from kvik.config import env
from kvik.errors import ConfigError, KvikError

TIMEOUT_S = 10


def find_server(args: ServeBenchArgs) -> tuple[Endpoint, str]:
    """The endpoint, and the path of the tokenizer.

    Raises `ConfigError` for flags that cannot be, `KvikError` where the server does not answer.
    """
    host, port, prefix, is_tls = args.host, args.port, "", False
    if args.base_url is not None:
        host, port, prefix, is_tls = split_base_url(args.base_url)
    tls = tls_context(not args.insecure) if is_tls else None
    headers = _headers(args)
    name, tokenizer = _name(args), _tokenizer(args)
    if name is None or tokenizer is None:
        url = f"{'https' if is_tls else 'http'}://{host}:{port}{prefix}"
        served = _served_model(url, name, headers, tls)
        name = name or str(served["id"])
        tokenizer = tokenizer or _served_tokenizer(served, name)
    path = prefix + (args.endpoint or DEFAULT_PATHS[args.backend])
    return Endpoint(
        host, port, path, args.backend, name, tls, headers, args.prompt_token_ids, args.body_fields()
    ), tokenizer


def name_values(flag: str, words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises `ConfigError`, naming the flag."""
    pairs = [word.partition("=") for word in words]
    if bad := [word for word, (key, equals, _) in zip(words, pairs, strict=True) if not (key and equals)]:
        raise ConfigError(f"{flag} takes NAME=VALUE, got {bad[0]!r}")
    return {key: value for key, _, value in pairs}


def _name(args: ServeBenchArgs) -> str | None:
    """What requests call the model, or None where the server must say. A --model that is a path says no name."""
    if args.served_model_name is not None or args.model is None:
        return args.served_model_name
    return None if _exists(args.model) else args.model


def _tokenizer(args: ServeBenchArgs) -> str | None:
    """Its path, or None where the server must say."""
    if args.tokenizer is not None and not _exists(args.tokenizer):
        raise ConfigError(f"--tokenizer {args.tokenizer}: there is no such folder or file")
    if args.tokenizer is None and args.model is not None and _exists(args.model):
        return args.model
    return args.tokenizer


def _served_tokenizer(served: Mapping[str, Any], name: str) -> str:
    """The server's own path of its model, where this machine has it too."""
    root = served.get("root")
    if isinstance(root, str) and _exists(root):
        return root
    raise ConfigError(f"prompts for {name!r} need its tokenizer: --tokenizer FOLDER, or FILE.gguf")


def _exists(path: str) -> bool:
    return Path(path).expanduser().exists()


def _headers(args: ServeBenchArgs) -> dict[str, str]:
    key = env.api_key()
    return ({"Authorization": f"Bearer {key}"} if key else {}) | name_values("--header", args.header)


def _served_model(url: str, name: str | None, headers: dict[str, str], tls: ssl.SSLContext | None) -> dict[str, Any]:
    """The server's entry of this name, or its first."""
    request = urllib.request.Request(f"{url}/v1/models", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=tls) as response:
            entries = [dict(entry) for entry in json.load(response)["data"]]
        return next((e for e in entries if e["id"] == name), entries[0])
    except urllib.error.HTTPError as e:
        raise KvikError(f"{url}/v1/models answers {e.code}; name the model: --model and --tokenizer") from None
    except OSError as e:
        reason = getattr(e, "reason", e)
        raise KvikError(f"cannot reach {url}: {reason}; is the server up, and its address right?") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise KvikError(f"{url}/v1/models names no model; name it: --model and --tokenizer") from None
