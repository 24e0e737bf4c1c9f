from __future__ import annotations

import pytest

from kvik.text.content_format import detect_content_format

STRING = [
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
    "{% for m in messages %}{% for line in m.content.split('\\n') %}{{ line }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% for t in m.tool_calls %}{{ t.name }}{% endfor %}{% endfor %}",
    "no template at all",
]
PARTS = [
    "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% for part in m['content'][1:] | list %}{{ part.text }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% set c = m.content %}{% for part in c %}{{ part.text }}{% endfor %}{% endfor %}",
    "{% macro show(content) %}{% for p in content %}{{ p.text }}{% endfor %}{% endmacro %}{{ show(m.content) }}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ p['text'] }}{% endfor %}{% endif %}{% endfor %}",
]


@pytest.mark.parametrize("source", STRING)
def test_templates_that_print_contents(source: str) -> None:
    assert detect_content_format(source) == "string"


@pytest.mark.parametrize("source", PARTS)
def test_templates_that_loop_over_contents(source: str) -> None:
    assert detect_content_format(source) == "openai"
