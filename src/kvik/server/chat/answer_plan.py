"""How the answers of one chat request are made and read: parsers, and what the engine is told because of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.server.chat.call_grammar import arguments_grammar, call_grammar, strict_calls
from kvik.server.chat.tools import Choice, ToolUse
from kvik.structured_outputs import StructuredOutputs
from kvik.text.parsing import AnswerParser, PlainParser
from kvik.text.parsing.forced import LIST_MARKUP, CallsAlone, FirstCallOnly, NamedCallParser, forced_list_parser
from kvik.text.parsing.formats import AnswerFormats
from kvik.text.parsing.guard import Guarded, Joined
from kvik.text.parsing.pipeline import chained, without_tokens
from kvik.text.parsing.reasoning import Begin, ReasoningFormat
from kvik.text.parsing.reasoning_tokens import ReasoningTokens
from kvik.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """Made once per request; each of `n` answers gets a parser and a counter of its own."""

    use: ToolUse
    formats: AnswerFormats
    begin: Begin
    """Where in its reasoning an answer begins."""
    tokenizer: Tokenizer | None
    strict_level: str
    """--tool-strict-level."""
    hides_special_tokens: bool
    """The request wants special tokens left out."""

    @property
    def reasoning(self) -> ReasoningFormat | None:
        return self.formats.reasoning

    @property
    def new_parser(self) -> Callable[[], AnswerParser]:
        """`PlainParser` where answers are content and nothing else."""
        stages = self._stages()
        return (lambda: Joined(chained([Guarded(stage()) for stage in stages]))) if stages else PlainParser

    @property
    def new_counter(self) -> Callable[[], ReasoningTokens] | None:
        """Counts the tokens of reasoning in one answer; None without a format of reasoning."""
        reasoning, tokenizer = self.reasoning, self.tokenizer
        if reasoning is None or tokenizer is None:
            return None
        ids = {text: i for text in reasoning.markers if (i := tokenizer.token_id(text)) is not None}
        return lambda: ReasoningTokens(reasoning, self.begin, ids, lambda text: len(tokenizer.encode(text, False)))

    def applied_to(self, params: SamplingParams) -> SamplingParams:
        """The same parameters, with what forced calls and parsers need. Raises `InvalidRequestError`."""
        if self._kept_tokens():
            params = replace(params, skip_special_tokens=False)
        if self.use.is_forced:
            asked = params.structured_outputs
            if asked is not None and asked.param != "response_format":  # that one is for answers without calls
                raise InvalidRequestError(
                    f"{asked.param} and tool_choice {self.use.choice.value!r} exclude each other", param=asked.param
                )
            return replace(params, structured_outputs=self._forced_calls())
        constraint = params.structured_outputs or self._strict_calls()
        if constraint is not None and constraint.starts_after is None:
            return replace(params, structured_outputs=replace(constraint, starts_after=self._starts_after()))
        return params

    def _stages(self) -> list[Callable[[], AnswerParser]]:
        stages: list[Callable[[], AnswerParser]] = []
        hidden = self._hidden_tokens()
        if hidden:
            stages.append(lambda: without_tokens(hidden))
        if (reasoning := self.reasoning) is not None:
            stages.append(lambda: reasoning.new_parser(self.begin))
        if self.use.choice != Choice.NONE:
            stages.append(self._new_call_parser)
        return stages

    def _new_call_parser(self) -> AnswerParser:
        use, own = self.use, self.formats.tools
        if use.is_forced and (own is None or own.markup is None):
            parser = NamedCallParser(use.tools[0].name) if use.choice == Choice.NAMED else forced_list_parser()
        else:
            assert own is not None
            parser = own.new_parser(use.schemas)
        if use.is_forced:
            parser = CallsAlone(parser)
        return parser if use.is_parallel else FirstCallOnly(parser)

    def _forced_calls(self) -> StructuredOutputs:
        own = None if self.formats.tools is None else self.formats.tools.markup
        prefix = self.reasoning if self.begin == Begin.UNSURE else None
        special = self._special_ids()
        if own is None and self.use.choice == Choice.NAMED:
            grammar = arguments_grammar(self.use.tools[0], special, prefix)
        else:
            is_parallel = self.use.is_parallel and self.use.choice == Choice.REQUIRED
            grammar = call_grammar(own or LIST_MARKUP, self.use.tools, is_parallel, special, prefix)
        return StructuredOutputs(grammar=grammar, starts_after=self._starts_after(), param="tools", bounds_digits=True)

    def _strict_calls(self) -> StructuredOutputs | None:
        """Of calls that the model begins itself: that they are of a tool there is, with arguments of its schema."""
        own = self.formats.tools
        if self.use.choice != Choice.AUTO or own is None or not own.can_be_strict or self._special_ids():
            return None
        tag = strict_calls(own, self.use.tools, self.strict_level)
        return None if tag is None else StructuredOutputs(structural_tag=tag, param="tools")

    def _starts_after(self) -> list[int] | None:
        """Token ids after which an answer that begins in reasoning must keep to a grammar."""
        if self.reasoning is None or self.begin != Begin.IN_REASONING or self.tokenizer is None:
            return None
        return self.tokenizer.encode(self.reasoning.ends[0], add_special_tokens=False)

    def _special_ids(self) -> Mapping[str, int]:
        """Markers that are special tokens here: no text to a grammar."""
        special = {} if self.tokenizer is None else self.tokenizer.special_tokens
        return {text: special[text] for text in self._markers() if text in special}

    def _markers(self) -> tuple[str, ...]:
        tools = self.formats.tools if self.use.choice != Choice.NONE else None
        return (self.reasoning.markers if self.reasoning else ()) + (tools.markers if tools else ())

    def _kept_tokens(self) -> bool:
        """Whether special tokens must stay in the text, although the request does not want them."""
        return self.hides_special_tokens and bool(self._special_ids())

    def _hidden_tokens(self) -> list[str]:
        """Special tokens that must be taken out of the text again."""
        if not self._kept_tokens() or self.tokenizer is None:
            return []
        return [token for token in self.tokenizer.special_tokens if token not in self._markers()]
