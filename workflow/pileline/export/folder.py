"""The folder that is written: a model, its tokenizer and a page that says how to use them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save

from pileline.export.architectures import ExportError, translate
from pileline.models import LanguageModel
from pileline.tokenizer import END, Tokenizer, escaped, huggingface
from pileline.tokenizer import NAME as SENTENCEPIECE
from pileline.tokenizer.settings import SPECIALS

CODE = Path(__file__).with_name("modeling_pileline.py")
CONVERTED = "Qwen3ForCausalLM"  # of our architectures, the one that llama.cpp's converter knows


def write(model: LanguageModel, tokenizer: Tokenizer, folder: str | Path) -> dict[str, Any]:
    """Write what `transformers` loads from `folder`; returns its architecture and whether it needs our code.

    Raises `ExportError` for a model that no architecture computes, or a tokenizer that is not the model's.
    """
    if (tokenizer.vocabulary_size, tokenizer.end) != (model.vocabulary_size, model.end):
        raise ExportError(
            f"the tokenizer has {tokenizer.vocabulary_size:,} tokens, end {tokenizer.end}; the model "
            f"{model.vocabulary_size:,}, end {model.end}; export it with the tokenizer it was trained with"
        )
    exported, folder = translate(model), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", exported.config)
    (folder / "model.safetensors").write_bytes(save(exported.weights, {"format": "pt"}))
    generation = {"bos_token_id": model.end, "eos_token_id": model.end, "pad_token_id": model.end, "do_sample": True}
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / huggingface.NAME, _in_transformers(huggingface.to_dict(tokenizer), tokenizer.end))
    _write_json(folder / "tokenizer_config.json", _tokenizer_settings(model.context))
    for name in (CODE.name, SENTENCEPIECE):
        (folder / name).unlink(missing_ok=True)
    if exported.own_code:
        shutil.copyfile(CODE, folder / CODE.name)
    architecture: str = exported.config["architectures"][0]
    pieces = escaped.to_bytes(tokenizer) if architecture == CONVERTED else None
    if pieces is not None:
        (folder / SENTENCEPIECE).write_bytes(pieces)
    page = _page(architecture, exported.own_code) + (LLAMA_CPP if pieces is not None else "")
    (folder / "README.md").write_text(page, encoding="utf-8")
    return {"architecture": architecture, "own_code": exported.own_code}


def _in_transformers(tokenizer: dict[str, Any], end: int) -> dict[str, Any]:
    """The tokenizer with `end` put before each text, as a document starts, and written out where it is decoded.

    Other programs ask how `end` is written to see whether a text has it already, as lm-evaluation-harness does: were
    it nothing, every text would have it. transformers leaves it out itself where it is told to skip special tokens.
    """
    first, text = {"SpecialToken": {"id": END, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    steps = [step for step in tokenizer["decoder"]["decoders"] if step["type"] != "Replace"]
    return tokenizer | {
        "decoder": {"type": "Sequence", "decoders": steps},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text],
            "pair": [first, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {END: {"id": END, "ids": [end], "tokens": [END]}},
        },
    }


def _tokenizer_settings(context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "unk_token": SPECIALS[0],
        "split_special_tokens": True,  # the name of a token in a text is text
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_max_length": context,
        "model_input_names": ["input_ids", "attention_mask"],
    }


LLAMA_CPP = f"""
llama.cpp reads it as a GGUF file, for which `{SENTENCEPIECE}` is here. Its converter does not say that texts start
without a blank, so that must be said when the file is loaded:

```
python convert_hf_to_gguf.py . --outtype f32 --outfile model.gguf
llama-completion -m model.gguf --override-kv tokenizer.ggml.add_space_prefix=bool:false -p "The history of"
```
"""


def _page(architecture: str, own_code: bool) -> str:
    trust = ", trust_remote_code=True" if own_code else ""
    code = "`modeling_pileline.py` is the model's code. " if own_code else ""
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
A language model trained with Pileline, as {architecture}. {code}Weights are float32.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("."{trust})
tokenizer = AutoTokenizer.from_pretrained("."{trust})
inputs = tokenizer("The history of", return_tensors="pt")  # puts {END}, which starts a document, before the text
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0], skip_special_tokens=True))
```
"""


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
