"""The parsers that the flags name. Light to import: a wrong name ends the start before the engine's begins."""

from __future__ import annotations

from kvik.config.frontend import ServerConfig
from kvik.text.parsing.formats import AnswerFormats, load_formats


def formats_of(config: ServerConfig) -> AnswerFormats:
    """Raises `ConfigError` for a parser that is not there."""
    return load_formats(
        config.tool_call_parser, config.tool_parser_plugin, config.reasoning_parser, config.reasoning_parser_plugin
    )
