"""POST /v1/messages and /v1/messages/count_tokens: the Anthropic Messages API over the same conversations as chat."""
