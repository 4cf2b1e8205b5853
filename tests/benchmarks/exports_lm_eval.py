"""lm-evaluation-harness on exported folders, in its own environment; `exports.py` runs this file there.

By its own defaults a context begins with `end`, since the tokenizer puts it there. Whole texts are conditioned on the
same token by the harness itself, which then must not ask the tokenizer for it too: `add_bos_token=False`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval  # type: ignore[import-not-found]
from lm_eval.api.instance import Instance  # type: ignore[import-not-found]
from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]

COMMON = {"device": "cpu", "dtype": "float32", "trust_remote_code": True}


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, asked, place) for place, asked in enumerate(arguments)]


def bits_per_byte(model: HFLM, texts: list[str], folder: Path) -> float:
    """What the harness reports of a task whose documents are the texts."""
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    task = {
        "task": "texts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    found = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)["results"]["texts"]
    return float(found["bits_per_byte,none"])


def read(given: dict[str, Any], work: Path) -> dict[str, Any]:
    """Scores (nats) and texts of one exported folder."""
    texts = [document["text"] for document in given["documents"]]
    pairs = [(document["context"], document["continuation"]) for document in given["documents"]]
    model = HFLM(pretrained=given["folder"], batch_size=1, **COMMON)
    wanted = {"do_sample": False, "max_gen_toks": given["new_tokens"]}
    written = model.generate_until(requests("generate_until", [(context, wanted) for context, _ in pairs]))
    answers = model.loglikelihood(requests("loglikelihood", pairs))
    whole = HFLM(pretrained=given["folder"], batch_size=4, add_bos_token=False, **COMMON)
    return {
        "continuation": [score for score, _ in answers],
        "document": [score for score, _ in whole.loglikelihood(requests("loglikelihood", [("", t) for t in texts]))],
        "rolling": whole.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in texts])),
        "bits per byte": [bits_per_byte(whole, texts, work)],
        "written": written,
    }


def main(given: str, found: str) -> None:
    asked = json.loads(Path(given).read_text(encoding="utf-8"))
    answers = {name: read(model, Path(found).parent) for name, model in asked.items()}
    Path(found).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
