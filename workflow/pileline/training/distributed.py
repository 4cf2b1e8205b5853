"""One model trained by several processes, each on its rows of every batch, as if one had seen them all.

    ddp   each process has the whole model; gradients are averaged while the backward pass goes on (Li et al. 2020,
          PyTorch Distributed)
    fsdp  each process keeps a part of every weight, gradient and memory, and gathers a layer's weights when it needs
          them: for models whose training no single device holds (Zhao et al. 2023, PyTorch FSDP; here its second
          version). Each builds the whole model on the CPU, and moves it to its device a layer at a time.

Either gives the steps that one process would take, up to the order in which floats are summed; and that order is
fixed, so that a run which is killed and started again ends with the same bits. On GPUs processes talk by NCCL, on CPUs
by Gloo.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel

from .derived import Settled
from .group import Group, Loss
from .muon import STACKED, Muon
from .settings import TrainingError


@contextmanager
def group(distribution: str, device: str) -> Iterator[Group]:
    """The group of all processes that torchrun started, for "ddp" or "fsdp"; this process's GPU is its local rank's.

    `device` is "cpu" or "cuda". Raises `TrainingError` where a machine has fewer GPUs than processes.
    """
    if device.startswith("cuda"):
        local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= found:
            raise TrainingError(
                f"training: this machine has {found} GPUs, too few for process {local}; lower processes"
            )
        torch.cuda.set_device(local)
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=torch.device("cuda", local))
    else:
        dist.init_process_group("gloo")
    try:
        yield {"ddp": Replicated, "fsdp": Sharded}[distribution]()
    finally:
        dist.destroy_process_group()


class Several(Group):
    """What the processes tell one another, however the model is distributed."""

    def __init__(self) -> None:
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()

    def mean(self, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed / self.ranks

    def total(self, values: list[float]) -> list[float]:
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        found: list[float] = summed.tolist()
        return found

    def agree(self, value: Any) -> Any:
        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def share(self, buffers: list[Tensor]) -> None:
        for buffer in buffers:
            if buffer.is_floating_point():
                buffer.copy_(self.mean(buffer))
            else:
                dist.broadcast(buffer, src=0)

    def barrier(self) -> None:
        dist.barrier()


class _Loss(nn.Module):
    """A network whose forward pass is its loss, since that is what DDP puts its hooks around."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.network.loss(inputs, targets)  # type: ignore[no-any-return]


class Replicated(Several):
    """Each process has the whole model."""

    def wrap(self, network: Any) -> Loss:
        # To look for unused parameters keeps DDP from laying its buckets anew after the first step, in the order in
        # which gradients came: a run that is resumed has another first step, so it would sum in another order.
        self._module = DistributedDataParallel(
            _Loss(network), forward_sync_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
        )
        return self._module

    def gathering(self, last: bool) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if last else self._module.no_sync()  # type: ignore[no-any-return]


class Sharded(Several):
    """Each process has its rows of every weight; those of a layer are gathered around its passes."""

    whole = False
    device = "cpu"

    def place(self, model: Any, device: str) -> None:
        """The model stays on the CPU: `wrap` moves layer by layer, so that no device ever holds all of it."""
        model.device = self.device = device

    def wrap(self, network: Any) -> Loss:
        mesh = init_device_mesh(self.device.split(":")[0], (self.ranks,))
        for layers in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
            for layer in layers:
                fully_shard(layer, mesh=mesh)
        # FSDP warns of views among a layer's outputs, which must not be changed in place: here keys and values, unused.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        self._network: Any = fully_shard(network, mesh=mesh)
        register_fsdp_forward_method(network, "loss")
        return network.loss  # type: ignore[no-any-return]

    def optimizers(self, network: Any, plan: Settled) -> list[torch.optim.Optimizer]:
        made = super().optimizers(network, plan)
        for group in (group for each in made if isinstance(each, torch.optim.SGD) for group in each.param_groups):
            group.update(fused=False, foreach=True)  # torch has no fused SGD for weights that are shared out
        return [GatheringMuon(each.param_groups) if isinstance(each, Muon) else each for each in made]

    @contextmanager
    def gathering(self, last: bool) -> Iterator[None]:
        self._network.set_requires_gradient_sync(last)
        yield

    def norm(self, parameters: list[nn.Parameter]) -> Tensor:
        return _gathered(super().norm(parameters))

    def state(self, network: Any, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        whole: dict[str, Any] = _mapped(self._collected, super().state(network, optimizers))
        return whole

    def _collected(self, value: Tensor) -> Tensor:
        """The whole of a tensor on the CPU, in the first process, which writes it; the others let go of it."""
        whole = _gathered(value)
        return whole.cpu() if self.is_first else whole.new_empty(0)

    def load(self, network: Any, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
        self.load_weights(network, state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            memories = {
                number: {name: _part(value, parameters[number]) for name, value in memory.items()}
                for number, memory in saved["state"].items()
            }
            optimizer.load_state_dict(saved | {"state": memories})

    def weights(self, network: Any) -> dict[str, Tensor]:
        whole: dict[str, Tensor] = _mapped(lambda value: _gathered(value).cpu(), super().weights(network))
        return whole

    def load_weights(self, network: Any, weights: dict[str, Tensor]) -> None:
        likes = network.state_dict()
        network.load_state_dict({name: _part(value, likes[name]) for name, value in weights.items()})


class GatheringMuon(Muon):
    """Muon on matrices that are shared out by rows: the nearest orthogonal matrix is one of whole matrices.

    They are gathered, a stack at a time, and every process computes all of it and keeps its rows. That repeats work,
    as under DDP, but little: five steps of three products of a matrix, where its gradient took a product with every
    token of the batch.
    """

    def _orthogonal(self, matrices: tuple[Tensor, ...], group: dict[str, Any]) -> list[Tensor]:
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for place, matrix in enumerate(matrices):
            alike[matrix.shape].append(place)
        found: dict[int, Tensor] = {}
        for shape, places in alike.items():
            most = max(STACKED // shape.numel(), 1)
            for start in range(0, len(places), most):
                part = places[start : start + most]
                whole = _gathered(torch.stack([matrices[place] for place in part])).unbind()  # one message
                results = super()._orthogonal(whole, group)
                found |= {place: _part(one, matrices[place]) for place, one in zip(part, results, strict=True)}
        return [found[place] for place in range(len(matrices))]


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with every tensor in its dicts and lists changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(change, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_mapped(change, part) for part in value]
    return value


def _gathered(value: Tensor) -> Tensor:
    """The whole of a tensor of which this process has a part. Every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _part(value: Any, like: Tensor) -> Any:
    """Of a whole tensor, what this process has of it if it goes with the rows of `like`, which are shared out."""
    goes = isinstance(value, Tensor) and value.ndim > 0 and value.shape == like.shape[: value.ndim]
    if not (goes and isinstance(like, DTensor)):
        return value
    everywhere = DTensor.from_local(value.to(like.device), like.device_mesh, [Replicate()], run_check=False)
    return everywhere.redistribute(like.device_mesh, like.placements)
