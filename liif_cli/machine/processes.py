"""The processes of one training run: as torchrun starts them, or this one alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """This process's number and how many there are. `local`: its number on this machine, which picks its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, validates and writes."""
        return self.rank == 0

    def agree(self, code: int) -> int:
        """The largest of all processes' codes, so that all of them stop after the same step."""
        if self.size == 1:
            return code
        tensor = torch.tensor(code, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all processes of their tensors."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that torchrun's environment describes (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*), joined; else a world of one.

    NCCL between GPUs, gloo between CPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(world.local)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield world
    finally:
        distributed.destroy_process_group()
