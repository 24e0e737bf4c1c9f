"""What can never be served here, and the words that say so. Knows sizes, no request and no state."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Limits:
    max_model_len: int
    """Tokens, prompt and answer together."""
    num_blocks: int
    block_size: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool

    def check_prompt_length(self, num_tokens: int) -> None:
        """Raises `InvalidRequestError`."""
        if num_tokens == 0:
            raise InvalidRequestError("the prompt must have at least 1 token, got 0", param="prompt")
        if num_tokens >= self.max_model_len:
            raise InvalidRequestError(
                f"the prompt has {num_tokens} tokens; with a context of {self.max_model_len} tokens (--max-model-len) "
                f"it may have {self.max_model_len - 1}, so that 1 is left for the answer",
                param="prompt",
            )

    def why_too_large(self, num_tokens: int) -> str | None:
        """None if so many tokens of one request fit the cache when they have it for themselves."""
        num_needed = -(-num_tokens // self.block_size)
        if num_needed <= self.num_blocks:
            return None
        return (
            f"{num_tokens} tokens need {num_needed} KV blocks of {self.block_size} tokens, but the cache has "
            f"{self.num_blocks} in all; shorten the request or give the server a larger cache "
            "(--kv-cache-memory-bytes)"
        )

    def why_too_long_for_a_step(self, num_tokens: int) -> str | None:
        """None if a request with so many known tokens can be started, whatever the prefix cache holds."""
        if self.enable_chunked_prefill or num_tokens <= self.max_num_batched_tokens:
            return None
        return (
            f"{num_tokens} tokens do not fit one step of {self.max_num_batched_tokens} tokens; allow chunks "
            f"(--enable-chunked-prefill) or set --max-num-batched-tokens to at least {num_tokens}"
        )
