"""A traced graph -> pieces between the ops that it is to be split at, each compiled for itself.

What lies between two attentions can then be captured as a graph of the device's, and layers that are alike are compiled
once: the second one is found in the cache. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.passes.split_module import split_module

CompilePiece = Callable[[GraphModule, Sequence[Any]], Callable[..., Any]]
"""A graph and its inputs, as fake tensors and symbolic numbers -> what computes it."""


def compile_pieces(
    graph: GraphModule, split_at: Mapping[str, Callable[..., Any]], compile_piece: CompilePiece
) -> Callable[..., Any]:
    """What computes `graph` as dynamo traced it. Ops named in `split_at`, as "kvik::attention", are not compiled: the
    function that stands there is called."""
    part_of, kept = _parts(graph, split_at)
    whole = split_module(graph, graph, part_of.__getitem__, keep_original_order=True)
    inputs = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
    names = {f"submod_{part}" for part in kept}
    _PieceCompiler(whole, names, compile_piece).run(*inputs)
    for name in names:
        _call_plainly(getattr(whole, name), split_at)
    return whole.forward


def num_pieces(graph: GraphModule, split_at: Collection[str]) -> int:
    """How many pieces would be compiled."""
    part_of, kept = _parts(graph, split_at)
    return len(set(part_of.values()) - kept)


def _parts(graph: GraphModule, split_at: Collection[str]) -> tuple[dict[Node, int], set[int]]:
    """The number of each node's part, and those parts that are an op to split at."""
    part, part_of, kept = 0, {}, set()
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if _op_name(node) in split_at:
            part_of[node] = part + 1
            kept.add(part + 1)
            part += 2
        else:
            part_of[node] = part
    return part_of, kept


def _call_plainly(kept: GraphModule, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Put functions in the places of the ops."""
    for node in kept.graph.nodes:
        node.target = functions.get(_op_name(node), node.target)
    kept.recompile()


def _op_name(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "_qualified_op_name", ""))


class _PieceCompiler(Interpreter):
    """Runs the split graph on fake inputs, and replaces each piece that it meets by the compiled one."""

    def __init__(self, whole: GraphModule, kept: set[str], compile_piece: CompilePiece) -> None:
        super().__init__(whole)
        self._kept = kept
        self._compile_piece = compile_piece

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with _mode_of(args):
            return super().run(*args, **kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super().call_module(target, args, kwargs)
        if target not in self._kept:
            piece = getattr(self.module, target)
            with torch._guards.tracing(torch._guards.TracingContext(_mode_of(args))):
                setattr(self.module, target, _Callable(self._compile_piece(piece, args)))
        return result


def _mode_of(args: Sequence[Any]) -> FakeTensorMode:
    return next(arg.fake_mode for arg in args if isinstance(arg, FakeTensor))


class _Callable(torch.nn.Module):
    """A function where a graph wants a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.forward = function
