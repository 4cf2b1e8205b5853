"""One of the processes that train a model together; torchrun starts it, `pileline.training.launch` starts torchrun.

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m pileline.training.worker FOLDER

It does what `pileline.training.train` does in one process, on its rows of every batch. FOLDER says what to train.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pileline import models, training
from pileline.models.device import choose_device
from pileline.training import distributed, launch
from pileline.training.settings import Plan


def main(folder: Path) -> None:
    """Train what `folder` describes; leaves an error there, to be raised where training was asked for."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        _train(folder, json.loads((folder / launch.JOB).read_text(encoding="utf-8")))
    except Exception as error:
        known = isinstance(error, ValueError)  # the library's own errors say all there is to say
        rank = int(os.environ["RANK"])
        said = {"rank": rank, "message": str(error) if known else repr(error)}
        (folder / launch.ERROR.format(rank=rank)).write_text(json.dumps(said), encoding="utf-8")
        if not known:
            raise
        sys.exit(1)


def _train(folder: Path, job: dict[str, Any]) -> None:
    plan, device = Plan(**job["plan"]), choose_device(job["device"])
    decode = pickle.loads((folder / launch.DECODE).read_bytes())
    with distributed.group(plan.distribution, device) as group:
        model: Any = models.build(job["settings"], job["vocabulary_size"], job["end"], job["seed"])
        model.network.load_state_dict(load_file(folder / launch.INITIAL))
        group.place(model, device)
        places = Path(job["output"]), Path(job["scratch"])
        outcome = training.by_gradient(model, job["shards"], plan, job["seed"], job["threads"], *places, decode, group)
        weights = group.weights(model.network)
        if group.is_first:
            launch.leave(weights, outcome, folder)
        group.barrier()


def _end_with_launcher() -> None:
    """End this process when whoever started it is gone, so that no orphan writes where the next run does."""
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
