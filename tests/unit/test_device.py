"""Where a model computes and in which precision: chosen by a rule, or refused."""

from __future__ import annotations

import pytest
import torch
from pileline.models.device import choose_device, choose_precision
from pileline.models.interface import ModelError


def test_device_and_precision_are_chosen_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelError, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert choose_precision("auto", "cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto", "cpu") == "bfloat16"
    assert choose_precision("float32", "cpu") == "float32"
    with pytest.raises(ModelError, match="precision 'int8'"):
        choose_precision("int8", "cpu")
