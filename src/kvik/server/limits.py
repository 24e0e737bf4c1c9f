"""What a client can multiply, and how far. Checked before memory is taken; knows no field of a request.

The server's own caps lie well below what would hurt it, and well above what people send.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvik.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Caps per HTTP request."""

    max_body_bytes: int = 32 << 20
    max_body_read_s: float = 60.0
    """From the head of a request to the last byte of its body."""
    max_json_depth: int = 64
    max_prompts: int = 1024
    max_sequences: int = 1024
    """Prompts times n."""
    max_messages: int = 4096
    max_content_parts: int = 4096
    max_stop_strings: int = 4
    max_stop_string_chars: int = 1024
    max_stop_token_ids: int = 1024
    max_logit_bias: int = 1024
    max_bad_words: int = 128
    max_tools: int = 512
    max_tool_schema_chars: int = 1 << 16
    """Of one tool's parameters, as JSON."""
    max_request_id_chars: int = 128
    max_cache_salt_chars: int = 128

    def check(self, count: int, limit: int, param: str, unit: str) -> None:
        """Raise `InvalidRequestError` for `param` where there are more than `limit` of its parts."""
        if count > limit:
            raise InvalidRequestError(f"{param} may hold at most {limit} {unit}, got {count}", param=param)

    def check_sequences(self, num_prompts: int, n: int) -> None:
        """Raise `InvalidRequestError` where the prompts, n times each, are too many."""
        if num_prompts * n > self.max_sequences:
            raise InvalidRequestError(
                f"prompts times n may be at most {self.max_sequences}, got {num_prompts} x {n}", param="n"
            )
