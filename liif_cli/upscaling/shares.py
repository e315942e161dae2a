"""Divides the nodes of a cluster among actors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from liif_cli.errors import UsageError

CPUS = 2
"""CPUs of an actor without a GPU, if the number of actors is not given: one renders while the other reads and compresses."""


@dataclass(frozen=True)
class Fleet:
    """The requested cluster and its actors.

    address: `auto` (a running cluster, otherwise this machine), `local`, or the address of a cluster. actors: their number;
    None: as many as fit. gpus: per actor, may be a fraction; None: one if the cluster has any.
    """

    address: str = "auto"
    actors: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Share:
    """The resources of each of `actors` actors. memory: in bytes."""

    actors: int
    cpus: int
    gpus: float
    memory: int


def share(nodes: Sequence[Mapping[str, float]], fleet: Fleet, memory: int | None) -> Share:
    """Divide a cluster's nodes, each given by its resources (CPU, GPU, memory in bytes), among actors.

    memory: bytes per actor; None: divide the memory of each node. Raises `UsageError` if the actors do not fit.
    """
    gpus = fleet.gpus if fleet.gpus is not None else float(any(node.get("GPU", 0) >= 1 for node in nodes))
    able = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
    if not able:
        raise UsageError(f"no node of the cluster has a CPU and {gpus:g} GPUs for an actor", argument="gpus_per_actor")
    cpus = _cpus(able, fleet.actors, gpus)
    slots = [_slots(node, cpus, gpus, memory) for node in able]
    actors = fleet.actors or sum(slots)
    if not 1 <= actors <= sum(slots):
        raise UsageError(f"{actors} actors do not fit: the cluster has room for {sum(slots)}", argument="actors")
    held = memory or int(
        min(node["memory"] / min(slot, actors) for node, slot in zip(able, slots, strict=True) if slot)
    )
    return Share(actors, cpus, gpus, held)


def _cpus(nodes: Sequence[Mapping[str, float]], actors: int | None, gpus: float) -> int:
    if gpus:
        return max(1, min(int(node["CPU"] // (node["GPU"] // gpus)) for node in nodes))
    if actors is None:
        return max(1, min(CPUS, *(int(node["CPU"]) for node in nodes)))
    return max(1, min(int(sum(node["CPU"] for node in nodes) // actors), *(int(node["CPU"]) for node in nodes)))


def _slots(node: Mapping[str, float], cpus: int, gpus: float, memory: int | None) -> int:
    fits = [node["CPU"] // cpus]
    fits += [node["GPU"] // gpus] if gpus else []
    fits += [node["memory"] // memory] if memory else []
    return int(min(fits))
