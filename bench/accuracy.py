"""How far quantised weights move the next-token distributions of a model: mean KL from its bf16 weights, in nats.

`python -m bench.accuracy MODEL [--gguf FILE] [--tokens 5000]`. The text is this repository's own documents, cut into
pieces that are scored with prompt logits straight from the model; no server runs.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.layers import formats
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.layers.formats import FormatOf, asked_formats, stored_formats
from kvik.modelfile import open_model
from kvik.models import Model, build_model
from kvik.text.tokenizer import Tokenizer
from kvik.weights import open_checkpoint

PIECE_TOKENS = 512
_BLOCK_SIZE = 16
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Score:
    mean_kl: float
    """Nats."""
    same_best: float
    """Share of positions with the same most likely token."""
    weights_bytes: int


def pieces_of_text(model_path: Path, num_tokens: int) -> list[list[int]]:
    """The documents of the repository as token ids, in pieces of PIECE_TOKENS."""
    text = "\n".join(path.read_text() for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]))
    ids = Tokenizer.load(model_path).encode(text)[:num_tokens]
    return [ids[first : first + PIECE_TOKENS] for first in range(0, len(ids), PIECE_TOKENS)]


def load(path: Path, format_of: FormatOf | None) -> Model:
    """`format_of` None: matrices as they are stored where the kernels can, bf16 where not."""
    model_file = open_model(path)
    checkpoint = open_checkpoint(model_file)
    stored = stored_formats(checkpoint.format_of, "bf16")
    model = build_model(model_file.spec, torch.bfloat16, max_positions=PIECE_TOKENS, format_of=format_of or stored)
    model.load(checkpoint)
    return model


def log_probabilities(model: Model, pieces: list[list[int]]) -> Iterator[torch.Tensor]:
    """Of each piece [tokens, V] fp32."""
    spec, num_blocks = model.spec, PIECE_TOKENS // _BLOCK_SIZE
    shape = (num_blocks, spec.num_kv_heads, spec.head_dim, _BLOCK_SIZE, torch.float16)
    kv = [LayerKV(*allocate_kv_cache(*shape)) for _ in range(spec.num_layers)]
    for ids in pieces:
        with torch.inference_mode():
            batch = _batch(ids, kv)
            logits = model.logits(model.forward(batch), torch.arange(len(ids), dtype=torch.int32))
            yield logits.log_softmax(-1)


def score(model: Model, reference: list[torch.Tensor], pieces: list[list[int]]) -> Score:
    """`reference`: what the bf16 model says, fp32 or fp16."""
    total, same, count = 0.0, 0, 0
    for expected, found in zip(reference, log_probabilities(model, pieces), strict=True):
        p = expected.float().log_softmax(-1)  # fp16 may have left the sum of probabilities a little off one
        total += float((p.exp() * (p - found)).sum())
        same += int((p.argmax(-1) == found.argmax(-1)).sum())
        count += len(p)
    return Score(total / count, same / count, model.weights_bytes)


def _batch(ids: list[int], kv: list[LayerKV]) -> ForwardBatch:
    count = len(ids)
    positions = torch.arange(count, dtype=torch.int32)
    blocks = torch.arange(PIECE_TOKENS // _BLOCK_SIZE, dtype=torch.int32)[None]
    return ForwardBatch(
        token_ids=torch.from_numpy(np.asarray(ids, np.int32)),
        positions=positions,
        slot_mapping=positions,
        query_start_loc=torch.tensor([0, count], dtype=torch.int32),
        seq_lens=torch.tensor([count], dtype=torch.int32),
        block_tables=blocks,
        logits_rows=positions[-1:],
        kv=kv,
    )


def choices() -> dict[str, FormatOf]:
    """What is compared: the two quantisations, and each with the other choice for embedding and head."""

    def with_embedding(quantization: str, embedding: str) -> FormatOf:
        layers = asked_formats(quantization, "bf16")
        names = formats.EMBEDDINGS
        return lambda name, k: embedding if name in names else layers(name, k)

    return {
        "bf16 as q16": lambda _name, _k: "q16",
        "int8": asked_formats("int8", "bf16"),
        "int8, embedding and head bf16": with_embedding("int8", "bf16"),
        "int4": asked_formats("int4", "bf16"),
        "int4, embedding and head q4_1": with_embedding("int4", "q4_1"),
        "int4, embedding and head bf16": with_embedding("int4", "bf16"),
    }


def main() -> None:
    logging.getLogger("kvik").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--gguf", type=Path, help="a file of the same weights, scored as it is")
    parser.add_argument("--tokens", type=int, default=5000)
    args = parser.parse_args()
    pieces = pieces_of_text(args.model, args.tokens)
    bf16 = load(args.model, lambda _name, _k: "bf16")
    reference = [piece.half() for piece in log_probabilities(bf16, pieces)]
    print(f"| weights | GiB | mean KL from bf16, nats | same best token |\n|---|---|---|---|\n"
          f"| bf16 | {bf16.weights_bytes / 2**30:.3f} | | |", flush=True)  # fmt: skip
    for name, format_of in choices().items():
        _print(name, score(load(args.model, format_of), reference, pieces))
    if args.gguf:
        _print(args.gguf.name, score(load(args.gguf, None), reference, pieces))


def _print(name: str, result: Score) -> None:
    print(
        f"| {name} | {result.weights_bytes / 2**30:.3f} | {result.mean_kl:.5f} | {result.same_best:.1%} |", flush=True
    )


if __name__ == "__main__":
    main()
