"""The processes of one run that torchrun started, or a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """This process's rank and the number of processes. local: its rank on this machine, which selects its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process logs, validates and writes files."""
        return self.rank == 0

    def agree(self, code: int) -> int:
        """The largest code of all processes, so that all stop after the same step."""
        if self.size == 1:
            return code
        tensor = torch.tensor(code, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of the tensors of all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Join the process group that torchrun's environment describes (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*).

    Without such an environment, the world is this process alone. Uses NCCL between GPUs and gloo between CPUs.
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
