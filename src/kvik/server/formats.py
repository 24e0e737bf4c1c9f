"""The parsers that the flags name. Light to import: a wrong name ends the start before the engine's begins."""

from __future__ import annotations

from kvik.config.frontend import ServerConfig
from kvik.errors import NotSupportedYetError
from kvik.text.parsing.formats import AnswerFormats, load_formats


def formats_of(config: ServerConfig) -> AnswerFormats:
    """Raises `ConfigError` for a parser that is not there."""
    formats = load_formats(
        config.tool_call_parser, config.tool_parser_plugin, config.reasoning_parser, config.reasoning_parser_plugin
    )
    if config.tool_strict_level != "auto" and not (formats.tools and formats.tools.can_be_strict):
        raise NotSupportedYetError(
            f"--tool-strict-level {config.tool_strict_level} with --tool-call-parser {config.tool_call_parser}",
            "it works with hermes and other formats that mark each call",
        )
    return formats
