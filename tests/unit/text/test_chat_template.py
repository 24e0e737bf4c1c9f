"""Rendering against `transformers`' own, and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from kvik.errors import ConfigError, InvalidRequestError
from kvik.text.chat_template import ChatTemplate, load_template

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You help.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim }}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """{%- macro render(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for item in content %}
            {%- if 'text' in item %}
                {{- item.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content is defined and loop.index0 > ns.last %}
        {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- render(message.content) + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
USER: dict[str, Any] = {"role": "user", "content": " What is 2 + 2? "}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    USER,
    {"role": "assistant", "content": "4", "reasoning_content": "\nEasy.\n"},
]
CALL = {"type": "function", "function": {"name": "f", "arguments": {"é": [1, "<"]}}}
TOOL_TALK = [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "4"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def reference(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    (text,), _ = render_jinja_template([messages], chat_template=source, **options, **TOKENS)
    return str(text)


@pytest.mark.parametrize("source", [CHATML, LLAMA, QWEN])
@pytest.mark.parametrize("messages", [[USER], TALK, [*TALK, USER], TOOL_TALK])
@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_as_transformers_renders(source: str, messages: Any, tools: Any, add_generation_prompt: bool) -> None:
    text = ChatTemplate(source, TOKENS).render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
    assert text == reference(source, messages, tools=tools, add_generation_prompt=add_generation_prompt)


@pytest.mark.parametrize("source", [CHATML, LLAMA, QWEN])
@pytest.mark.parametrize("ending", ["The answer", "The answer ", "The answer\n"])
def test_continue_final_message_as_transformers_does(source: str, ending: str) -> None:
    messages = [USER, {"role": "assistant", "content": ending}]
    text = ChatTemplate(source, TOKENS).render(messages, add_generation_prompt=False, continue_final_message=True)
    assert text == reference(source, messages, continue_final_message=True)
    assert text.rstrip().endswith("The answer")


def test_template_variables_of_the_server_and_of_the_request() -> None:
    template = ChatTemplate(QWEN, {"enable_thinking": False})
    assert template.render([USER]).endswith("</think>\n\n")
    assert template.render([USER], chat_template_kwargs={"enable_thinking": True}).endswith("assistant\n")


def test_documents_reach_the_template() -> None:
    source = "{% for d in documents %}{{ d.text }}{% endfor %}"
    assert ChatTemplate(source).render([USER], documents=[{"text": "doc"}]) == "doc"


def test_a_template_of_the_request_replaces_the_models() -> None:
    assert ChatTemplate(None).render([USER], template="{{ messages[0].content }}") == USER["content"]
    assert ChatTemplate(CHATML).render([USER], template="x") == "x"


def test_the_format_of_contents_can_be_forced() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert ChatTemplate(source).content_format == "string"
    assert "'type': 'text'" in ChatTemplate(source, content_format="openai").render([USER])
    assert ChatTemplate(QWEN).content_format == "openai"


def test_the_models_messages_are_not_changed() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}]}
    ChatTemplate(QWEN).render([USER, message], add_generation_prompt=False, continue_final_message=True)
    assert message == {"role": "assistant", "content": [{"type": "text", "text": "a"}]}


def refused(chat_template: ChatTemplate, messages: Any = (USER,), **options: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        chat_template.render(messages, **options)
    return caught.value


def test_no_template() -> None:
    error = refused(ChatTemplate(None))
    assert error.param == "messages"
    assert "--chat-template" in error.message


def test_what_the_template_says_reaches_the_client() -> None:
    error = refused(ChatTemplate("{{ raise_exception('roles must alternate') }}"))
    assert (error.param, error.status) == ("messages", 400)
    assert "roles must alternate" in error.message


@pytest.mark.parametrize("source", ["{{ messages[0].content + 1 }}", "{{ messages[7].content.x }}", "{{ 1 / 0 }}"])
def test_a_template_that_fails_is_the_requests_error(source: str) -> None:
    assert refused(ChatTemplate(source)).param == "messages"


def test_a_request_template_that_does_not_parse() -> None:
    error = refused(ChatTemplate(CHATML), template="{% if %}")
    assert error.param == "chat_template"


def test_both_ways_to_go_on_exclude_each_other() -> None:
    assert refused(ChatTemplate(CHATML), continue_final_message=True).param == "continue_final_message"


@pytest.mark.parametrize("source", ["no content at all", "{{ messages[0].content | replace('o', '0') }}"])
def test_a_final_message_that_is_not_in_the_text_cannot_be_continued(source: str) -> None:
    messages = [{"role": "assistant", "content": "foo"}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    assert "not possible" in refused(ChatTemplate(source), messages, **options).message


def test_fields_of_the_request_are_no_template_variables() -> None:
    error = refused(ChatTemplate(CHATML), chat_template_kwargs={"messages": []})
    assert error.param == "chat_template_kwargs"


def test_a_server_template_that_does_not_parse_ends_the_start() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        ChatTemplate("\n{% endif %}")


def test_chat_template_flag(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ 'é' }}", encoding="utf-8")
    assert load_template(str(file)) == "{{ 'é' }}"
    assert load_template("{{ x }}") == "{{ x }}"
    with pytest.raises(ConfigError, match="nowhere"):
        load_template(str(tmp_path / "nowhere"))


def test_long_conversations_do_not_block_the_event_loop() -> None:
    long = [{"role": "user", "content": "x" * 100_000}]
    template = ChatTemplate(CHATML)
    for messages in ([USER], long):
        assert asyncio.run(template.render_async(messages)) == template.render(messages)


def test_messages_without_content_reach_only_templates_that_know_calls() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "assistant"}]
    plain = ChatTemplate("{% for m in messages %}[{{ m['content'] + '!' }}]{% endfor %}")
    assert plain.render(messages, add_generation_prompt=False) == '[[{"name": "f", "arguments": {}}]!][!]'
    knowing = ChatTemplate("{% for m in messages %}{{ m.content is none }},{{ m.tool_calls is defined }};{% endfor %}")
    assert knowing.render(messages[:1], add_generation_prompt=False) == "True,True;"


def test_developers_are_system_where_the_template_does_not_know_them():
    messages = [{"role": "developer", "content": "x"}]
    plain = ChatTemplate("{% for m in messages %}{{ m.role }}{% endfor %}")
    knowing = ChatTemplate("{% for m in messages %}{{ m.role }}{% if m.role == 'developer' %}!{% endif %}{% endfor %}")
    assert plain.render(messages) == "system"
    assert knowing.render(messages) == "developer!"


LOOK_TOOL = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {}}}]
GREETING = [{"role": "user", "content": "hi"}]


def test_conversations_with_tools_have_a_template_of_their_own(tmp_path: Path) -> None:
    """As `transformers` chooses among named templates."""
    from transformers import AutoTokenizer

    from fakes.byte_tokenizer import byte_tokenizer
    from kvik.text.tokenizer import Tokenizer

    byte_tokenizer().backend.save(str(tmp_path / "tokenizer.json"))
    named = [
        {"name": "default", "template": "plain: {{ messages[0].content }}"},
        {"name": "tool_use", "template": "{{ tools[0].function.name }}: {{ messages[0].content }}"},
    ]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": named}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = ChatTemplate.for_tokenizer(Tokenizer.load(tmp_path))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for tools in (None, LOOK_TOOL):
        assert ours.render(GREETING, tools=tools) == theirs.apply_chat_template(GREETING, tools=tools, tokenize=False)
    overridden = ChatTemplate.for_tokenizer(Tokenizer.load(tmp_path), "{{ 'mine' }}")
    assert overridden.render(GREETING, tools=LOOK_TOOL) == "mine"
    assert ours.render(GREETING, tools=LOOK_TOOL, template="{{ 'theirs' }}") == "theirs"


def test_a_template_for_tools_alone(caplog: pytest.LogCaptureFixture) -> None:
    template = ChatTemplate(None, tool_source="{{ tools | length }}")
    assert template.render(GREETING, tools=LOOK_TOOL) == "1"
    with pytest.raises(InvalidRequestError, match="no chat template"):
        template.render(GREETING)
    with pytest.raises(ConfigError, match="does not parse"):
        ChatTemplate("{{ 1 }}", tool_source="{% if %}")


def test_tools_that_no_template_shows_are_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvik.telemetry.log._LOGGED", set())
    template = ChatTemplate("{{ messages[0].content }} (warned about)")
    template.render(GREETING)
    assert not caplog.records
    template.render(GREETING, tools=LOOK_TOOL)
    assert "never mentions them" in caplog.text
