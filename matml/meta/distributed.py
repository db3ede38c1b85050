"""Several processes that share the tasks of each batch, started by `torchrun`.

    torchrun --nproc-per-node 2 my_meta_training.py

Each process adapts to its share of the tasks; gradients are summed over processes, so that all take
the same outer steps. Without `torchrun` there is one process and nothing is communicated.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn import Parameter

from matml.meta.outer import TaskDiverged
from matml.meta.tasks import mix

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """The processes of this run.

    Attributes
    ----------
    rank, size
        Number of this process (from 0), and how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of_this_run(cls) -> "Processes":
        """Return what `torchrun` says, joining its processes (gloo) where that was not done yet."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not distributed.is_available():
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of a batch."""
        return items[self.rank :: self.size]

    def same_everywhere(self, *modules: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers."""
        if self.size > 1:
            for module in modules:
                for tensor in module.state_dict().values():
                    own = tensor.cpu()
                    distributed.broadcast(own, 0)
                    tensor.copy_(own)

    def of_first(self, value: Item) -> Item:
        """Return the first process's value."""
        return self.gather([value])[0]

    def seed(self, seed: int, batch: int) -> None:
        """Seed this process's random numbers (dropout) by batch, where there are several.

        The checkpoint holds those of the first process only.
        """
        if self.size > 1:
            torch.manual_seed(mix(seed, batch * self.size + self.rank))

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            distributed.barrier()

    def mean_buffers(self, module: nn.Module) -> None:
        """Give all processes the mean of their floating-point buffers: statistics of own tasks."""
        if self.size > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    total = buffer.cpu()
                    distributed.all_reduce(total)
                    buffer.copy_(total / self.size)

    def gather(self, items: list[Item]) -> list[Item]:
        """Return the items of all processes, in the order of the processes."""
        if self.size == 1:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Give all processes the sum of their gradients.

        Parameters
        ----------
        parameters
            In the same order in every process; those without a gradient anywhere stay without.
        """
        if self.size == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        distributed.all_reduce(present)
        for parameter, count in zip(parameters, present.tolist(), strict=True):
            if count:
                own = parameter.grad
                parameter.grad = torch.zeros_like(parameter) if own is None else own
                # gloo works on the CPU; elsewhere the sum takes a detour
                total = parameter.grad.cpu()
                distributed.all_reduce(total)
                parameter.grad = total.to(parameter.device)

    def mean_gradient(self, parameters: Sequence[Parameter], losses: list[float]) -> list[float]:
        """Turn sums of gradients over own tasks into the mean over all; returns all losses.

        Parameters
        ----------
        parameters
            In the same order in every process; those without a gradient anywhere stay without.
        losses
            Of the own tasks that count.

        Raises
        ------
        TaskDiverged
            Where no task of any process counts.
        """
        everyone = self.gather(losses)
        if not everyone:
            raise TaskDiverged("all tasks of a meta-batch diverged: lower the inner learning rate")
        self.sum_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= len(everyone)
        return everyone
