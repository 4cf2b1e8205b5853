"""vLLM on exported folders, on the CPU, in its own environment; `exports.py` runs this file there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other processes may have the cores, too
}


def read(given: dict[str, Any]) -> dict[str, Any]:
    """Tokens, scores (nats) and texts of one exported folder."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    documents = given["documents"]
    model = LLM(given["folder"], dtype="float32", enforce_eager=True, max_model_len=given["context"], seed=0)
    codec = model.get_tokenizer()
    read = model.generate(
        [document["text"] for document in documents],
        SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0),
    )
    tokens = [list(row.prompt_token_ids) for row in read]
    scores = [
        [chances[token].logprob for chances, token in zip(row.prompt_logprobs[1:], ids[1:], strict=True)]
        for row, ids in zip(read, tokens, strict=True)
    ]
    starts = [len(codec(document["context"])["input_ids"]) - 1 for document in documents]
    greedy = SamplingParams(temperature=0.0, max_tokens=given["new_tokens"])
    return {
        "continuation": [sum(row[start:]) for row, start in zip(scores, starts, strict=True)],
        "document": [sum(row) for row in scores],
        "tokens": tokens,
        "written": [row.outputs[0].text for row in model.generate([d["context"] for d in documents], greedy)],
    }


def main(given: str, found: str) -> None:
    os.environ.update(QUIET)
    asked = json.loads(Path(given).read_text(encoding="utf-8"))
    answers = {name: read(model) for name, model in asked.items()}
    Path(found).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
