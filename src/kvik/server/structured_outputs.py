"""response_format, structured_outputs and the older guided_* fields -> one `StructuredOutputs`. Knows no grammar.

Each field says something of one thing, so two that disagree are refused, naming them. `response_format` replaces the
matching part of `structured_outputs`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kvik.errors import InvalidRequestError
from kvik.server.validation import RequestModel
from kvik.structured_outputs import KINDS, StructuredOutputs

Schema = dict[str, Any] | bool
"""A JSON schema."""


class JsonSchemaFormat(RequestModel):
    """`json_schema` of a response format."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), populate_by_name=True)

    name: str | None = Field(None, description="not read")
    description: str | None = Field(None, description="not read")
    json_schema: Schema | None = Field(None, alias="schema", description="what the answer must be")
    strict: bool | None = Field(None, description="schemas are always followed")


class LegacyStructure(RequestModel):
    """A constrained part of an answer: `begin`, then JSON of the schema, then `end`."""

    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True)

    begin: str
    json_schema: Schema = Field(alias="schema")
    end: str


class ResponseFormat(RequestModel):
    """What the answer must be."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = Field(None, description="with type json_schema")
    format: dict[str, Any] | None = Field(None, description="with type structural_tag")
    structures: list[LegacyStructure] | None = Field(None, description="with type structural_tag, older form")
    triggers: list[str] | None = Field(None, description="texts that start a structure, older form")


class StructuredOutputsFields(RequestModel):
    """Exactly one of the first six, and options."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), populate_by_name=True)

    json_: str | Schema | None = Field(None, alias="json", description="a JSON schema, or its text")
    regex: str | None = Field(None, description="the whole answer matches it")
    choice: list[str] | None = Field(None, description="the answer is one of these")
    grammar: str | None = Field(None, description="Lark or GBNF")
    json_object: bool | None = Field(None, description="any JSON object")
    structural_tag: str | dict[str, Any] | None = Field(None, description="free text with constrained parts, as JSON")
    disable_any_whitespace: bool = Field(False, description="no blanks between the tokens of JSON")
    disable_fallback: bool = Field(False, description="accepted: there is one backend")
    disable_additional_properties: bool = Field(False, description="objects have the listed properties only")
    whitespace_pattern: str | None = Field(None, description="a regular expression for the blanks of JSON")


class ConstraintFields(RequestModel):
    """The fields of a request that say what the text of its answer must be."""

    structured_outputs: StructuredOutputsFields | None = Field(None, description="what the answer must be")
    response_format: ResponseFormat | None = Field(None, description="what the answer must be, in OpenAI's words")
    guided_json: str | Schema | None = Field(None, description="older name of structured_outputs.json")
    guided_regex: str | None = Field(None, description="older name of structured_outputs.regex")
    guided_choice: list[str] | None = Field(None, description="older name of structured_outputs.choice")
    guided_grammar: str | None = Field(None, description="older name of structured_outputs.grammar")
    guided_json_object: bool | None = Field(None, description="older name of structured_outputs.json_object")
    guided_decoding_backend: Annotated[str | None, Field(max_length=128)] = Field(
        None, description="accepted: the server has one backend"
    )
    guided_whitespace_pattern: str | None = Field(
        None, description="older name of structured_outputs.whitespace_pattern"
    )


_OPTIONS = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")
_GUIDED = ("json", "regex", "choice", "grammar", "json_object")


def structured_outputs_of(request: ConstraintFields) -> StructuredOutputs | None:
    """The request's constraint; None where it has none. Raises `InvalidRequestError` naming the field."""
    wishes, options = _guided(request)
    asked = request.structured_outputs
    if asked is not None:
        given = {kind: value for kind in KINDS if (value := _value(asked, kind)) not in (None, False)}
        wishes |= {kind: (value, "structured_outputs") for kind, value in given.items()}
        options |= {name: value for name in _OPTIONS if (value := getattr(asked, name))}
    if request.response_format is not None:
        wishes |= _of_format(request.response_format)
    if asked is not None and not wishes:
        raise InvalidRequestError(
            f"structured_outputs takes exactly one of {', '.join(KINDS)}, got none of them", param="structured_outputs"
        )
    if not wishes:
        return None
    if len(wishes) > 1:
        _refuse_several(wishes)
    ((kind, (value, param)),) = wishes.items()
    return StructuredOutputs(**{kind: value}, **options, param=param)


Wishes = dict[str, tuple[Any, str]]
"""Kind of constraint -> its value, and the field that it came from."""


def _value(asked: StructuredOutputsFields, kind: str) -> Any:
    return asked.json_ if kind == "json" else getattr(asked, kind)


def _guided(request: ConstraintFields) -> tuple[Wishes, dict[str, Any]]:
    wishes: Wishes = {}
    for kind in _GUIDED:
        value = getattr(request, f"guided_{kind}")
        if value is not None and (value is not False or kind == "json"):
            wishes[kind] = (value, f"guided_{kind}")
    pattern = request.guided_whitespace_pattern
    return wishes, {} if pattern is None else {"whitespace_pattern": pattern}


def _of_format(given: ResponseFormat) -> Wishes:
    param = "response_format"
    if given.type == "text":
        return {}
    if given.type == "json_object":
        return {"json_object": (True, param)}
    if given.type == "json_schema":
        if given.json_schema is None or given.json_schema.json_schema is None:
            raise InvalidRequestError(
                "response_format of type json_schema needs json_schema, an object with 'name' and 'schema'", param=param
            )
        return {"json": (given.json_schema.json_schema, param)}
    return {"structural_tag": (_structural_tag(given), param)}


def _structural_tag(given: ResponseFormat) -> dict[str, Any]:
    if given.format is not None:
        return {"format": given.format}
    if given.structures is None or given.triggers is None:
        raise InvalidRequestError(
            "response_format of type structural_tag needs 'format', or 'structures' and 'triggers'",
            param="response_format",
        )
    return {"structures": [s.model_dump(by_alias=True) for s in given.structures], "triggers": given.triggers}


def _refuse_several(wishes: Wishes) -> None:
    """`response_format` and `structured_outputs` may both be there, but for one thing."""
    said = [f"{param}{'' if param.startswith('guided') else f' ({kind})'}" for kind, (_, param) in wishes.items()]
    raise InvalidRequestError(
        f"an answer takes exactly one constraint, got {len(said)}: {', '.join(said)}; leave all but one out",
        param=list(wishes.values())[-1][1],
    )
