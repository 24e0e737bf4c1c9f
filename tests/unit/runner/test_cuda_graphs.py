"""Captured passes on a fake GPU: the same numbers as call by call, with the padding nowhere to be seen."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fakes.fake_gpu import FakeGpu
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.tape import Counts
from kvik.layers.batch import Attend, ForwardBatch, LayerKV
from kvik.runner.cuda_graphs import GraphedForward, GraphKey
from kvik.runner.device_batch import DeviceBatch
from kvik.runner.graph_sizes import GraphSizes

HIDDEN = 8
MOST = Counts(16, 8, 4)


class Spec:
    hidden_size = HIDDEN
    num_heads = 1
    head_dim = HIDDEN


class SumOfRequests:
    """A model whose one attention adds up each request's rows, and that writes each token's slot into its cache."""

    spec = Spec()
    compute_dtype = torch.float32
    attentions = (SimpleNamespace(width=HIDDEN, qkv_width=HIDDEN),)

    def __init__(self) -> None:
        self.num_forwards = 0
        self.table = torch.randn(100, HIDDEN, generator=torch.Generator().manual_seed(0))

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        self.num_forwards += 1
        x = self.table.index_select(0, batch.token_ids) + batch.positions[:, None]
        return self._call(self.attend, x * 2, batch) + x

    def attend(self, qkv: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        ends = batch.query_start_loc[1:]
        request = (torch.arange(qkv.shape[0])[:, None] >= ends[None]).sum(1).clamp(max=len(ends) - 1)
        keys = batch.kv[0].k.view(-1)
        keys.index_add_(0, batch.slot_mapping.clamp(min=0), (batch.slot_mapping >= 0).to(keys.dtype))
        lengths = batch.seq_lens.index_select(0, request) + batch.block_tables.index_select(0, request)[:, 0]
        sums = torch.zeros(len(ends), HIDDEN).index_add_(0, request, qkv)
        return sums.index_select(0, request) * lengths[:, None]

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return hidden.index_select(0, rows) * 3

    def _call(self, attend: Attend, qkv: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        return attend(qkv, batch) if batch.at_attention is None else batch.at_attention(attend, qkv)


def host_batch(counts: list[int], kv: list[LayerKV], seed: int = 0) -> ForwardBatch:
    """Requests with so many tokens each, on the host."""
    rng = random.Random(seed)
    num_tokens = sum(counts)
    return ForwardBatch(
        token_ids=ints(rng.randrange(100) for _ in range(num_tokens)),
        positions=ints(rng.randrange(50) for _ in range(num_tokens)),
        slot_mapping=ints(rng.sample(range(1, 60), num_tokens)),
        query_start_loc=ints([0, *(sum(counts[: i + 1]) for i in range(len(counts)))]),
        seq_lens=ints(count + rng.randrange(9) for count in counts),
        block_tables=torch.randint(1, 9, (len(counts), 2), dtype=torch.int32),
        logits_rows=ints(sum(counts[: i + 1]) - 1 for i in range(len(counts))),
        kv=kv,
    )


def ints(values: Any) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int32)


class World:
    def __init__(self, sizes: GraphSizes) -> None:
        self.gpu = FakeGpu()
        self.kv = [LayerKV(*allocate_kv_cache(16, 1, 4, 4, torch.float32))]
        self.model = SumOfRequests()
        batch = DeviceBatch(self.gpu, self.kv, MOST, 8)
        self.forward = GraphedForward(self.gpu, self.model, self.kv, batch, sizes)  # type: ignore[arg-type]

    def run(self, batch: ForwardBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """hidden, logits, and what the step wrote to the cache."""
        self.kv[0].k.zero_()
        hidden = self.forward.forward(batch)
        logits = self.forward.logits(hidden, batch.logits_rows)
        return hidden[: batch.token_ids.shape[0]].clone(), logits.clone(), self.kv[0].k.clone()


@pytest.fixture
def world() -> World:
    made = World(GraphSizes(full=(1, 4, 8), piecewise=(4, 16)))
    for key in (GraphKey("PIECEWISE", 16), GraphKey("FULL", 8), GraphKey("FULL", 4)):
        made.forward.capture(key)
    return made


@pytest.mark.parametrize("counts", [[1] * 4, [1] * 3, [1] * 7, [1], [5, 1, 3], [16], [2], [1, 2, 1]])
def test_a_replay_gives_what_the_model_gives(world: World, counts: list[int]) -> None:
    plain = World(GraphSizes())
    for seed in range(3):  # the second time around nothing of the first may be left
        batch = host_batch(counts, world.kv, seed)
        before = world.gpu.num_replays
        for found, wanted in zip(world.run(batch), plain.run(batch), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert world.gpu.num_replays > before, "it was computed call by call"


def test_batches_beyond_the_largest_graph_are_computed_call_by_call() -> None:
    world = World(GraphSizes(full=(1, 2), piecewise=(4,)))
    for key in (GraphKey("FULL", 2), GraphKey("PIECEWISE", 4)):
        world.forward.capture(key)
    before = world.gpu.num_replays
    world.run(host_batch([1] * 3, world.kv))
    world.run(host_batch([5], world.kv))
    assert world.gpu.num_replays == before
    assert not world.forward.capture_wanted(), "nothing could be captured for them"


def test_what_a_step_would_have_liked_is_captured_when_idle(world: World) -> None:
    world.run(host_batch([1], world.kv))
    world.run(host_batch([2, 1], world.kv))
    assert len(world.forward.captured) == 3
    assert world.forward.capture_wanted() is True
    assert world.forward.capture_wanted() is False
    assert len(world.forward.captured) == 5
    forwards = world.model.num_forwards
    world.run(host_batch([1], world.kv))
    world.run(host_batch([2, 1], world.kv))
    assert world.model.num_forwards == forwards
    assert world.forward.capture_wanted() is False


def test_capturing_writes_no_keys() -> None:
    world = World(GraphSizes(full=(4,), piecewise=(4,)))
    world.forward.capture_all([GraphKey("PIECEWISE", 4), GraphKey("FULL", 4)])
    assert world.kv[0].k.count_nonzero() == 0


def test_rows_of_prompts_may_be_asked_for(world: World) -> None:
    batch = host_batch([5, 3], world.kv)
    hidden = world.forward.forward(batch)
    rows = ints([0, 2, 4])
    torch.testing.assert_close(world.forward.logits(hidden, rows), hidden[[0, 2, 4]] * 3)


def test_after_all_graphs_were_dropped_others_can_be_captured(world: World) -> None:
    world.forward.drop_all()
    assert len(world.gpu.graphs) == 0, "their memory is still held"
    world.forward.capture(GraphKey("FULL", 4))
    before = world.gpu.num_replays
    world.run(host_batch([1] * 4, world.kv))
    assert world.gpu.num_replays == before + 1


def test_a_host_that_waits_for_the_device_cannot_be_captured() -> None:
    world = World(GraphSizes(full=(2,)))

    def attend(qkv: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        return qkv * int(batch.seq_lens.max())

    world.model.attend = attend  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="waits for the device"):
        world.forward.capture(GraphKey("FULL", 2))
