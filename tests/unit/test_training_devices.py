"""A step of training keeps to one device: what a network makes on its way is where its weights are.

No GPU is needed to see it. Weights and tokens stand on torch's meta device, which has shapes and no numbers; what is
made without a device lies on the CPU, as it would beside a GPU, and is caught where the two meet.
"""

from __future__ import annotations

import pytest
import torch
from pileline import models
from pileline.training import derived, tables
from pileline.training.group import Group
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

V, END, CONTEXT = 50, 0, 16
SIZE = {"layers": 2, "heads": 2, "width": 32, "context": CONTEXT}
NETWORKS = {
    "transformer": SIZE | {"bigrams": 64, "ngrams": 3, "key_shift": 2, "key_value_heads": 1, "dropout": 0.1},
    "separate": SIZE | {"kind": "transformer", "documents": "separate", "bigrams": 64, "key_shift": 1, "tied": False},
    "gated": SIZE | {"kind": "transformer", "mlp_kind": "gated", "again": False},
    "transformer-2017": SIZE,
    "lstm": {"embedding": 8, "width": 16, "layers": 2, "dropout": 0.1, "context": CONTEXT},
    "mlp": {"context": CONTEXT, "hidden": 16},
    "squared": {"kind": "mlp", "context": CONTEXT, "loss": "mse", "direct": False},
}


class OneDevice(TorchDispatchMode):
    """Fails where an operation meets tensors of two devices; single numbers may come from the CPU, as on a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        met = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, torch.Tensor)]
        devices = {value.device.type for value in met if value.ndim or value.device.type == "meta"}
        assert len(devices) < 2, f"{function} met {devices}"
        return result


def test_two_devices_are_seen_where_they_meet():
    """Also where torch itself would not look, since there is nothing to multiply."""
    with OneDevice(), pytest.raises(AssertionError, match=r"met \{.*(meta|cpu).*(cpu|meta)"):
        torch.nn.functional.linear(torch.zeros(2, 3, device="meta"), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "muon") for name in NETWORKS), *(("gated", other) for other in ("adamw", "momentum", "rmsprop"))],
)
def test_a_step_stays_on_one_device(name, optimizer):
    network = models.build({"kind": name} | NETWORKS[name], V, END, 1).network.to("meta").train()
    row = torch.zeros((4, CONTEXT), dtype=torch.int64, device="meta")
    plan = derived.Settled(optimizer=optimizer, weight_decay=0.1)
    with OneDevice():
        optimizers = Group().optimizers(network, plan)
        network.loss(row, row).backward()
        assert Group().norm(list(network.parameters())).device.type == "meta"
        for each in optimizers:
            for group in each.param_groups:
                group.update(fused=None, foreach=True)  # there is no fused step of no numbers
            if not isinstance(each, tables.Rows):  # it looks which rows are there
                each.step()
        network.eval()
        with torch.no_grad():
            network.loss(row, row)
            state = {}
            for length in (5, 1, 3):
                hidden, state = network.extend(row[:, :length], state)
                network.logits(hidden[:, -1])
    assert all(parameter.grad is not None for parameter in network.parameters())
