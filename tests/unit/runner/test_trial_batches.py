from __future__ import annotations

import torch

from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts
from kvik.runner.trial_batches import trial_batches
from support.tiny_models import BLOCK, TinyModel


def test_trials_compute_and_write_nothing() -> None:
    tiny = TinyModel.of()
    most = Counts(num_rows=48, num_requests=4, block_table_width=4)
    arrays = BatchArrays(*most, 4)
    sizes = []
    for trial in trial_batches(arrays, tiny.kv, BLOCK, most):
        batch = trial()
        sizes.append((batch.token_ids.shape[0], batch.seq_lens.shape[0]))
        assert batch.token_ids.data_ptr() == arrays.token_ids.data_ptr()
        assert batch.query_start_loc.tolist()[-1] == batch.token_ids.shape[0]
        assert torch.isfinite(tiny.model.forward(batch)).all()
    assert sizes == [(1, 1), (4, 4), (48, 1)]
    assert all(layer.k.count_nonzero() == 0 and layer.v.count_nonzero() == 0 for layer in tiny.kv)
