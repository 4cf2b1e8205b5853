"""Training on a GPU: the same bits after a stop, and what its memory holds."""

from __future__ import annotations

import pytest
import torch
from pileline import models, training
from pileline.training import derived, loop

from tests.unit.test_training import END, SMALL, Killed, Memory, V, folders, same, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def run(folder, batches, **plan):
    model = models.build(SMALL | {"context": batches.context}, V, END, 1).to("cuda")
    loop.run(model, batches, None, derived.Settled(**{"steps": 12, "warmup": 2} | plan), 1, 1, *folder, "", 0)
    return model


def test_a_run_that_stops_ends_with_the_same_bits(tmp_path):
    class Stopping(Memory):
        def batch_at(self, step):
            if step == 7:
                raise Killed
            return super().batch_at(step)

    with pytest.raises(Killed):
        run(folders(tmp_path, "broken"), Stopping())
    straight, resumed = (run(folders(tmp_path, name), Memory()) for name in ("straight", "broken"))
    assert same(weights(straight), weights(resumed))


def test_too_little_memory_says_which_batch_fits(tmp_path):
    most = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(256 * 2**20 / most)
    try:
        with pytest.raises(training.TrainingError, match=r"out of memory on .* fit: set accumulate: \d+"):
            run(folders(tmp_path), Memory(batch=4096, context=512, epoch_steps=1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
