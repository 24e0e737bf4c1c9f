"""What a client can multiply, and how far. Checked before memory is taken; knows no field of a request.

The defaults lie well below what would hurt the server, and well above what people send.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from kvik.config.flags import flag
from kvik.errors import ConfigError, InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Caps per HTTP request. Raises `ConfigError` for one that would let nothing through."""

    max_body_bytes: int = flag(32 << 20, "bytes that a body may have", kind="size", ours=True)
    max_body_read_s: float = flag(60.0, "seconds from a request's head to the last byte of its body", ours=True)
    max_json_depth: int = flag(64, "levels that JSON may be nested", ours=True)
    max_prompts: int = flag(1024, "prompts of one completions request", kind="size", ours=True)
    max_n: int = flag(1024, "answers per prompt (n, best_of, beams)", kind="size", ours=True)
    max_sequences: int = flag(1024, "prompts times n", kind="size", ours=True)
    max_messages: int = flag(4096, "messages of a conversation", kind="size", ours=True)
    max_content_parts: int = flag(4096, "content parts of all its messages together", kind="size", ours=True)
    max_stop_strings: int = flag(4, "stop strings", ours=True)
    max_stop_string_chars: int = flag(1024, "characters of a stop string", kind="size", ours=True)
    max_stop_token_ids: int = flag(1024, "stop token ids", kind="size", ours=True)
    max_logit_bias: int = flag(1024, "entries of logit_bias", kind="size", ours=True)
    max_bad_words: int = flag(128, "bad_words", ours=True)
    max_tools: int = flag(512, "tools", kind="size", ours=True)
    max_tool_schema_chars: int = flag(1 << 16, "characters of one tool's parameters, as JSON", kind="size", ours=True)
    max_open_request_bytes: int = flag(
        1 << 30, "bytes that prompts and answers of open requests may come to hold together; more is a 429",
        kind="size", ours=True,
    )  # fmt: skip
    max_open_body_bytes: int = flag(
        1 << 30, "bytes of bodies that are read or worked on at a time; more is a 429", kind="size", ours=True
    )
    max_request_id_chars: int = 128

    def __post_init__(self) -> None:
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:
                raise ConfigError(f"--{limit.name.replace('_', '-')} takes 1 or more, got {getattr(self, limit.name)}")

    def check(self, count: int, limit: int, param: str, unit: str) -> None:
        """Raise `InvalidRequestError` for `param` where there are more than `limit` of its parts."""
        if count > limit:
            raise InvalidRequestError(f"{param} may hold at most {limit} {unit}, got {count}", param=param)

    def check_sequences(self, num_prompts: int, n: int) -> None:
        """Raise `InvalidRequestError` where n, or the prompts n times each, are too many."""
        if n > self.max_n:
            raise InvalidRequestError(f"n may be at most {self.max_n}, got {n}", param="n")
        if num_prompts * n > self.max_sequences:
            raise InvalidRequestError(
                f"prompts times n may be at most {self.max_sequences}, got {num_prompts} x {n}", param="n"
            )
