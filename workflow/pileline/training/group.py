"""The processes that train one model together; by default it is one, and everything here does nothing.

The loop calls a group wherever processes must agree, and never asks how many there are: sums over all, the gradient's
norm, what a checkpoint holds. `pileline.training.distributed` has the group of several processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from . import optimizers, tables
from .derived import Settled

Loss = Callable[[Tensor, Tensor], Tensor]  # inputs and targets [rows, context] to the mean loss in nats a token


class Group:
    """One process with the whole model: what the loop asks, answered for it alone."""

    rank = 0  # of this process
    ranks = 1  # processes in all
    whole = True  # whether each has all weights, so that one of them can write samples alone

    @property
    def is_first(self) -> bool:
        """Whether this process writes: the log, checkpoints, the screen."""
        return self.rank == 0

    def place(self, model: Any, device: str) -> None:
        """Bring a model that was built on the CPU to this process's device, before it is wrapped."""
        model.to(device)

    def wrap(self, network: Any) -> Loss:
        """The network's loss, as it is to be called: its gradients are the means over all processes."""
        return network.loss  # type: ignore[no-any-return]

    def optimizers(self, network: Any, plan: Settled) -> list[torch.optim.Optimizer]:
        """The optimizers of the wrapped network."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
        if plan.optimizer == "muon" and on_cpu and self.ranks == 1 and not plan.compile:
            tables.use_sparse_gradients(network)
        return optimizers.build(network.parameter_groups(), plan)

    def gathering(self, last: bool) -> AbstractContextManager[Any]:
        """Around a part's forward and backward pass: gradients need to be exchanged after the `last` part alone."""
        return contextlib.nullcontext()

    def norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """The 2-norm of the whole gradient, a scalar."""
        return tables.norm([p.grad for p in parameters if p.grad is not None])

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes of each of `values`."""
        return values

    def total(self, values: list[float]) -> list[float]:
        """The sum over all processes of each of `values`, the same bits on each."""
        return values

    def agree(self, value: Any) -> Any:
        """What the first process says: a small value that JSON can hold."""
        return value

    def share(self, buffers: list[Tensor]) -> None:
        """Make the same on all what each changed by its own rows: the mean; where there is none, what the first has."""

    def barrier(self) -> None:
        """Wait until all processes are here."""

    # ------------------------------------------------------------------------------------------- state

    def state(self, network: Any, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """All weights and memories, for a checkpoint: `network` and `optimizers`. Every process must call this."""
        return {"network": network.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}

    def load(self, network: Any, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def weights(self, network: Any) -> dict[str, Tensor]:
        """All weights alone, for the best model so far. Every process must call this."""
        return network.state_dict()  # type: ignore[no-any-return]

    def load_weights(self, network: Any, weights: dict[str, Tensor]) -> None:
        """Put back what `weights` returned."""
        network.load_state_dict(weights)
