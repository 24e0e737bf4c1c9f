"""Does a chat template want a message's content as one string, or as a list of parts? Reads the template, runs nothing.

A template wants parts if it loops over a message's content: over `message.content` or `message['content']`, over a
variable set from it, or over a macro's argument of that name.
"""

from __future__ import annotations

from typing import Literal

from jinja2 import nodes

from kvik.text.sandbox import parse_template

ContentFormat = Literal["string", "openai"]


def detect_content_format(source: str) -> ContentFormat:
    """ "openai" (a list of parts) or "string". Raises `jinja2.TemplateSyntaxError`."""
    tree = parse_template(source)
    names = _content_names(tree)
    return "openai" if any(_is_content(loop.iter, names) for loop in tree.find_all(nodes.For)) else "string"


def _content_names(tree: nodes.Template) -> set[str]:
    """Names of variables that hold a content: macro arguments called so, and what is set from one."""
    names = {arg.name for macro in tree.find_all(nodes.Macro) for arg in macro.args if arg.name == "content"}
    for assign in tree.find_all(nodes.Assign):
        if isinstance(assign.target, nodes.Name) and _is_content(assign.node, names):
            names.add(assign.target.name)
    return names


def _is_content(node: nodes.Node | None, names: set[str]) -> bool:
    while isinstance(node, nodes.Filter) or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)):
        node = node.node
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Name) and node.name in names
