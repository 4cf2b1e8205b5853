"""nanoGPT's side of the benchmark, run in its own folder: `steps COMPILE`, or `score CHECKPOINT` (see `nanogpt`).

`steps` takes gradient steps with nanoGPT's model, data, optimizer and settings of its CPU recipe, in the order of its
train.py: as many as a line of the input says, and answers with the seconds they took. `score` says what the model of a
checkpoint gives to the validation text, in nats a character.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path.cwd()))
from model import GPT, GPTConfig

DATA = "data/shakespeare_char"
BATCH, BLOCK = 12, 64
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": BLOCK, "bias": False, "dropout": 0.0}
VOCABULARY = 65


def get_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """A batch as train.py draws it."""
    data = np.memmap(f"{DATA}/train.bin", dtype=np.uint16, mode="r")
    starts = torch.randint(len(data) - BLOCK, (BATCH,))
    x = torch.stack([torch.from_numpy((data[i : i + BLOCK]).astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + BLOCK]).astype(np.int64)) for i in starts])
    return x, y


def steps(compiled: bool) -> None:
    """Answer each number read with the seconds of so many steps, by the clock and of the processor."""
    torch.manual_seed(1337)
    raw = GPT(GPTConfig(vocab_size=VOCABULARY, **SHAPE))
    optimizer = raw.configure_optimizers(1e-1, 1e-3, (0.9, 0.99), "cpu")
    model = torch.compile(raw) if compiled else raw
    x, y = get_batch()
    for line in sys.stdin:
        wall, core = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            _, loss = model(x, y)
            x, y = get_batch()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - core]), flush=True)


@torch.no_grad()
def score(path: str) -> None:
    """Nats a character of the whole validation text: blocks one after the other, and blocks that overlap by half."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = GPT(GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    text = torch.from_numpy(np.fromfile(f"{DATA}/val.bin", dtype=np.uint16).astype(np.int64))
    found = {}
    for name, stride in (("blocks", BLOCK), ("overlapping", BLOCK // 2)):
        total = characters = 0
        for start in range(0, len(text) - 1, stride):
            block = text[start : start + BLOCK + 1]
            skip = 0 if start == 0 else BLOCK - stride  # seen, and scored before
            if len(block) - 1 > skip:
                logits, _ = model(block[None, :-1], block[None, 1:])
                total += functional.cross_entropy(logits[0, skip:], block[1 + skip :], reduction="sum").item()
                characters += len(block) - 1 - skip
        found[name] = total / characters
    print(json.dumps(found | {"iterations": saved["iter_num"]}))


if __name__ == "__main__":
    if sys.argv[1] == "steps":
        steps(sys.argv[2] == "compiled")
    else:
        score(sys.argv[2])
