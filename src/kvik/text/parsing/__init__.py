"""An answer's text -> what it says: reasoning, content, calls of tools. One incremental parser per format."""

from kvik.text.parsing.events import (
    AnswerEvent,
    AnswerParser,
    ContentDelta,
    ParsedAnswer,
    ParsedToolCall,
    PlainParser,
    ReasoningDelta,
    ToolCallDelta,
)

__all__ = [
    "AnswerEvent",
    "AnswerParser",
    "ContentDelta",
    "ParsedAnswer",
    "ParsedToolCall",
    "PlainParser",
    "ReasoningDelta",
    "ToolCallDelta",
]
