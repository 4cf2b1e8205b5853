"""Train a model that learns by counting: one pass over the tokens, and its loss as the tokens grow.

The shards are shuffled, so their first sixteenth or quarter is a fair sample: the curve says what more text of
this kind would buy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pileline.shards import ShardSet

from .log import Log, read
from .outcome import Outcome, loss_over

CURVE_SHARES = (1 / 16, 1 / 4, 1.0)


def run(model: Any, shards: ShardSet, documents: list[Any], threads: int, output: Path) -> Outcome:
    """Fit `model` on growing parts of the shards and leave it fitted on all of them."""
    log = Log(output)
    for step, share in enumerate(CURVE_SHARES, 1):
        stream = shards.tokens.read(0, max(round(share * shards.n_tokens), 1))
        counted = model.fit(np.asarray(stream))
        loss = loss_over(model, documents)
        log.write({"step": step, "tokens": counted, "loss": None, "validation_loss": loss})
        print(f"counted {counted:,} tokens" + ("" if loss is None else f", validation loss {loss:.3f}"), flush=True)
    log.close()
    return Outcome(
        steps=len(CURVE_SHARES),
        tokens_seen=counted,
        epochs=1.0,
        final_training_loss=None,
        validation_loss=loss,
        device="cpu",
        precision="float64",
        threads=threads,
        optimizer={"name": "none: counts"},
        curve=read(log.path),
    )
