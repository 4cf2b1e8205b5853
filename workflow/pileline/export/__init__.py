"""Export: a trained transformer as the folder that Hugging Face `transformers` loads, with equal logits.

    export.write(model, tokenizer, "folder")       # config.json, model.safetensors, tokenizer.json, ...
    export.parity("folder", model, documents)      # what transformers makes of it, against the model itself

An architecture that other libraries know by name is worth more than our own code: vLLM has a Qwen3 and an OPT of its
own and takes NanoChat from transformers, llama.cpp converts a Qwen3. So weights are put in the shape of a known
architecture wherever one computes the same function (`architectures` says how); only what none has goes into a
modelling file of our own, which travels with the folder and is loaded by `trust_remote_code=True`, by
lm-evaluation-harness too if it is told to. `python -m tests.benchmarks.exports` asks them what they make of it.

A sequence is one document: it starts with `end`, which the exported tokenizer puts there.
"""

from pileline.export.architectures import KINDS, ExportError
from pileline.export.check import Parity, loaded, parity, tokenizer
from pileline.export.folder import write

__all__ = ["KINDS", "ExportError", "Parity", "loaded", "parity", "tokenizer", "write"]
