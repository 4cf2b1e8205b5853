"""Parity: an exported folder, as `transformers` loads it from its files alone, against the model it was made from."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pileline.models.interface import Tokens

TOLERANCE = 1e-3  # in logits, which float32 sums in another order leave apart by about 1e-5 of the largest


class Parity(NamedTuple):
    """How far transformers' logits are from the model's."""

    tokens: int  # places compared
    largest_logit: float
    largest_difference: float
    same_choice: float  # share of places where both find the same token likeliest

    @property
    def equal(self) -> bool:
        """Whether they are equal but for rounding."""
        return self.largest_difference <= TOLERANCE * max(self.largest_logit, 1.0)


@cache
def library() -> Any:
    """The module `transformers`, without its bars and hints; its copies of modelling files are deleted at the end."""
    folder = tempfile.mkdtemp(prefix="pileline-modules-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.setdefault("HF_MODULES_CACHE", folder)  # else they would stay in the user's home
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, of a widget that notebooks here do not have
        import transformers

    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers


def loaded(folder: str | Path) -> Any:
    """The folder as `AutoModelForCausalLM` loads it, in float32 on the CPU; nothing is asked of the network."""
    automatic = library().AutoModelForCausalLM
    return automatic.from_pretrained(str(folder), local_files_only=True, trust_remote_code=True).eval()


def tokenizer(folder: str | Path) -> Any:
    """The folder's tokenizer, as `AutoTokenizer` loads it."""
    return library().AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=True)


@torch.inference_mode()
def parity(folder: str | Path, model: Any, documents: list[Tokens]) -> Parity:
    """Compare all logits of some documents (without `end`, which is put before each; cut to the model's context)."""
    other, network = loaded(folder), model.network.eval()
    tokens, largest, difference, same = 0, 0.0, 0.0, 0
    for document in documents:
        ids = torch.from_numpy(np.append(model.end, np.asarray(document, dtype=np.int64))[: model.context])[None]
        ours = network(ids.to(model.device))[0].cpu()
        theirs = other(input_ids=ids).logits[0].float()
        tokens += len(ours)
        largest = max(largest, ours.abs().max().item())
        difference = max(difference, (ours - theirs).abs().max().item())
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Parity(tokens, largest, difference, same / max(tokens, 1))
