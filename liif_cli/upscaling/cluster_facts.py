"""Facts about a Ray cluster, for `liif doctor --ray`."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from liif_cli.errors import UsageError
from liif_cli.upscaling.cluster import connected, first_line
from liif_cli.upscaling.shares import Fleet, share


def examine(address: str) -> dict[str, dict[str, str]]:
    """Facts about a cluster by section: its nodes, their resources and installed versions.

    Raises `UsageError`, `DeviceError`.
    """
    from liif_cli.machine.memory import format_bytes

    with connected(address) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        found = {"ray": {"version": ray.__version__, "nodes": str(len(nodes)), "share": _share_of(nodes)}}
        ask = ray.remote(num_cpus=0)(versions)
        for number, node in enumerate(nodes, 1):
            has = node["Resources"]
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            facts = {"cpus": f"{has.get('CPU', 0):g}", "gpus": f"{has.get('GPU', 0):g}"}
            facts["memory"] = format_bytes(int(has.get("memory", 0)))
            try:
                facts |= ray.get(ask.options(scheduling_strategy=where).remote(), timeout=60)
            except ray.exceptions.RayError as error:
                facts["broken"] = first_line(error)
            found[f"node {number}, {node['NodeName']}"] = facts
    return found


def _share_of(nodes: Sequence[Mapping[str, Any]]) -> str:
    from liif_cli.machine.memory import format_bytes

    try:
        found = share([node["Resources"] for node in nodes], Fleet(), None)
    except UsageError as error:
        return str(error)
    gpus = f", {found.gpus:g} GPUs" if found.gpus else ""
    return f"{found.actors} actors, each of {found.cpus} CPUs{gpus}, {format_bytes(found.memory)}"


def versions() -> dict[str, str]:
    """The versions of Python, liif, torch and Ray in this process's environment."""
    import platform

    found = {"python": platform.python_version()}
    for name in ("liif", "torch", "ray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
