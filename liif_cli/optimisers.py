"""Optimisers by name: Adam (the paper's), AdamW, and Muon for the hidden layers with Adam for the rest."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from liif_cli.recipe import OptimiserConfig

COLOURS = 3  # channels of what goes into the first layer and comes out of the last


class MuonAdam(torch.optim.Optimizer):
    """Muon for weights that are matrices (a convolution's as (out, in * k * k)), Adam for biases, first and last layers.

    Muon (Jordan, 2024) replaces the momentum of a weight matrix by the nearest orthogonal matrix, which makes all its
    directions learn equally fast. It is scaled to the size of Adam's steps (Liu et al., 2025, arXiv 2502.16982), so that one
    learning rate serves both. torch's takes only matrices, so it works on views of the weights.
    """

    def __init__(self, parameters: list[nn.Parameter], config: OptimiserConfig) -> None:
        super().__init__(parameters, {"lr": config.lr})
        self.hidden = [p for p in parameters if p.ndim > 1 and COLOURS not in p.shape[:2]]
        chosen = {id(p) for p in self.hidden}
        rest = [p for p in parameters if id(p) not in chosen]
        self.views = [nn.Parameter(as_matrix(p.detach())) for p in self.hidden]
        assert all(v.data_ptr() == p.data_ptr() for v, p in zip(self.views, self.hidden, strict=True)), (
            "not channels-last"
        )
        self.adam = _adam(rest, config)
        decay, momentum = config.weight_decay, config.momentum
        self.muon = torch.optim.Muon(
            self.views, lr=config.lr, weight_decay=decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of both, at the learning rate of this optimiser's own group; `closure` is not supported."""
        for group in (*self.adam.param_groups, *self.muon.param_groups):
            group["lr"] = self.param_groups[0]["lr"]
        for weight, view in zip(self.hidden, self.views, strict=True):
            view.grad = None if weight.grad is None else as_matrix(weight.grad)
        self.muon.step()  # type: ignore[no-untyped-call]
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Both optimisers' states."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take such states. Raises `KeyError` for those of another optimiser."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in) or (out, in, k, k) -> (out, the rest), in channels-last order: a view where the weight is stored so."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def make_optimiser(config: OptimiserConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the config names; Adam and AdamW fused where torch has it (CPU and CUDA)."""
    return MuonAdam(parameters, config) if config.name == "muon" else _adam(parameters, config)


def _adam(parameters: list[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    fused = parameters[0].device.type in ("cpu", "cuda")
    make = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return make(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused)
