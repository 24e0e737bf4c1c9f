"""Reasoning before the answer, between two markers. One reader for all formats; `REASONING` says how they differ.

Where the answer begins, in reasoning or behind it, is seen from the prompt: templates may write the first marker, or
both, into it. Where the prompt has neither, the model writes the first marker itself or does not reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvik.text.parsing.events import AnswerParser
from kvik.text.parsing.outbox import Outbox
from kvik.text.parsing.reader import FormatParser, Markers, Reader, Reading


class Begin(Enum):
    """Where in its reasoning an answer begins."""

    IN_REASONING = "in reasoning"
    UNSURE = "reasoning if it begins with the marker"
    BEHIND_REASONING = "behind reasoning"


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a model marks its reasoning. Plug-ins bring such records."""

    starts: tuple[str, ...] = ("<think>",)
    """What stands before reasoning, one of these."""
    ends: tuple[str, ...] = ("</think>",)
    by_default: bool = False
    """An answer without any marker is reasoning that did not come to its end, rather than content."""

    @property
    def markers(self) -> tuple[str, ...]:
        """What must stay in the text, whether or not it is special tokens."""
        return self.starts + self.ends

    def beginning_after(self, prompt_text: str, continues_answer: bool = False) -> Begin:
        """Where an answer to this prompt begins. `continues_answer`: the prompt ends in the midst of the answer."""
        end = prompt_text.rstrip()
        if end.endswith(self.starts):
            return Begin.IN_REASONING
        if end.endswith(self.ends):
            return Begin.BEHIND_REASONING
        if continues_answer:
            last_start = max(map(end.rfind, self.starts))
            last_end = max(map(end.rfind, self.ends))
            if last_start != last_end:
                return Begin.IN_REASONING if last_start > last_end else Begin.BEHIND_REASONING
        return Begin.IN_REASONING if self.by_default else Begin.UNSURE

    def new_parser(self, begin: Begin) -> AnswerParser:
        """Of one answer; what is not reasoning is content."""
        starts, ends = Markers(*self.starts), Markers(*self.ends)

        def read(reader: Reader, out: Outbox) -> Reading[None]:
            return _read(reader, out, starts, ends, begin)

        return FormatParser(read)


def _read(reader: Reader, out: Outbox, starts: Markers, ends: Markers, begin: Begin) -> Reading[None]:
    if begin == Begin.BEHIND_REASONING:
        return
    reader.keep()
    yield from reader.skip_space()
    space = reader.kept()
    has_start = bool((yield from reader.match(starts)))
    if not has_start and begin == Begin.UNSURE:
        out.content(space)
        return
    if not has_start:
        out.reasoning(space)
    yield from reader.until(ends, out.reasoning)


_THINK = ReasoningFormat()
_THINK_BY_DEFAULT = ReasoningFormat(by_default=True)

REASONING: dict[str, ReasoningFormat] = {
    "deepseek_r1": _THINK_BY_DEFAULT,
    "deepseek_v3": _THINK,
    "glm45": _THINK,
    "glm47": _THINK,
    "granite": ReasoningFormat(
        ("Here's my thought process:", "Here is my thought process:"), ("Here's my response:", "Here is my response:")
    ),
    "hf": _THINK,
    "holo2": _THINK,
    "kimi_k2": _THINK,
    "mimo": _THINK,
    "minimax_m2": _THINK_BY_DEFAULT,
    "mistral": ReasoningFormat(("[THINK]",), ("[/THINK]",)),
    "nemotron_v3": _THINK_BY_DEFAULT,
    "olmo3": _THINK_BY_DEFAULT,
    "qwen3": _THINK,
    "seed_oss": ReasoningFormat(("<seed:think>",), ("</seed:think>",), by_default=True),
    "step3": _THINK_BY_DEFAULT,
    "step3p5": _THINK_BY_DEFAULT,
}
"""By the name that --reasoning-parser takes. Markup that is exactly alike has several names."""
