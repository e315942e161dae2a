"""Optimisers by name (Adam as in the paper, AdamW, Muon with Adam) and learning-rate schedules."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from liif_cli.training.recipe import OptimiserConfig, ScheduleConfig


def factor(schedule: ScheduleConfig, iteration: int, iterations: int) -> float:
    """The learning rate's factor in [0, 1] for step `iteration` (from 0) of `iterations`."""
    warm = min(1.0, (iteration + 1) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "multistep":
        return warm * float(schedule.gamma ** sum(iteration >= milestone for milestone in schedule.milestones))
    if schedule.name == "cosine":
        return warm * _cosine(iteration - schedule.warmup, iterations - schedule.warmup, schedule.floor)
    if schedule.name == "hold":
        return warm * _cosine(iteration - (iterations - schedule.decay), schedule.decay, schedule.floor)
    return warm


def _cosine(step: int, steps: int, floor: float) -> float:
    """1 until step 0, `floor` from step `steps` on, half a cosine in between."""
    if step <= 0 or steps <= 0:
        return 1.0
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2


COLOURS = 3  # input channels of the first layer, output channels of the last
NEWTON_SCHULZ = 5, (3.4445, -4.7750, 2.0315)  # iterations, and the coefficients that Jordan chose for speed


class MuonAdam(torch.optim.Optimizer):
    """Muon for hidden weight matrices (a convolution's as (out, in * k * k)), Adam for biases, first and last layers.

    Muon (Jordan, 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest orthogonal
    matrix, so that all directions learn equally fast. Its steps are scaled to the size of Adam's (Liu et al., 2025,
    arXiv:2502.16982), so that one learning rate suits both. The steps are those of `torch.optim.Muon`, which takes only
    matrices, one at a time; here all weights of one shape share one product.
    """

    def __init__(self, parameters: list[nn.Parameter], config: OptimiserConfig) -> None:
        super().__init__(parameters, {"lr": config.lr})
        self.config = config
        self.hidden = [p for p in parameters if p.ndim > 1 and COLOURS not in p.shape[:2]]
        chosen = {id(p) for p in self.hidden}
        self.adam = _adam([p for p in parameters if id(p) not in chosen], config)
        self.momentum = [torch.zeros_like(as_matrix(p.detach())) for p in self.hidden]
        # A tensor, so that the rate of a captured step can be changed.
        self.rate = torch.full((), config.lr, device=parameters[0].device)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the following steps."""
        self.param_groups[0]["lr"] = rate
        self.rate.fill_(rate)
        set_rate(self.adam, rate)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of Muon and Adam at the current rate. `closure` is not supported."""
        self.adam.step()
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for index, weight in enumerate(self.hidden):
            if weight.grad is not None:
                alike[weight.shape].append(index)
        for indices in alike.values():
            self._step([*map(self.hidden.__getitem__, indices)], [self.momentum[i] for i in indices])

    def _step(self, weights: list[Tensor], momentum: list[Tensor]) -> None:
        """One step for weights of one shape, with Nesterov momentum."""
        gradients = [as_matrix(weight.grad) for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(momentum, gradients, 1 - self.config.momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, momentum, self.config.momentum))
        size = 0.2 * max(ahead.shape[1:]) ** 0.5  # the root mean square of Adam's steps is 0.2 to 0.4 of the rate
        updates = (orthogonal(ahead).float() * (self.rate * size)).unbind(0)
        shaped = [as_weight(update, weight) for update, weight in zip(updates, weights, strict=True)]
        if self.config.weight_decay:
            torch._foreach_mul_(weights, 1 - self.rate * self.config.weight_decay)
        torch._foreach_sub_(weights, shaped)

    def state_dict(self) -> dict[str, Any]:
        """The momentum of the hidden layers and Adam's state."""
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state from `state_dict`. Raises `KeyError` if it belongs to another optimiser."""
        for own, given in zip(self.momentum, state_dict["momentum"], strict=True):
            own.copy_(given)
        self.adam.load_state_dict(state_dict["adam"])


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns) -> bf16 matrices of the same shape, whose singular values Newton-Schulz iterations bring to about
    1."""
    steps, (a, b, c) = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in) or (out, in, k, k) -> (out, in * k * k) in channels-last order; a view if the weight is stored in that
    order."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def as_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `as_matrix`, for a weight with the shape of `like`."""
    if like.ndim == 2:
        return matrix
    out, channels, height, width = like.shape
    return matrix.view(out, height, width, channels).permute(0, 3, 1, 2)


def make_optimiser(config: OptimiserConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the config names. Adam and AdamW are fused on the CPU and CUDA."""
    return MuonAdam(parameters, config) if config.name == "muon" else _adam(parameters, config)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of an optimiser's following steps, in place if it is a tensor."""
    if isinstance(optimiser, MuonAdam):
        optimiser.set_rate(rate)
        return
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _adam(parameters: list[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    fused = parameters[0].device.type in ("cpu", "cuda")
    make = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    device = parameters[0].device
    on_cuda = device.type == "cuda"
    rate: Any = torch.tensor(config.lr, device=device) if on_cuda else config.lr
    return make(parameters, rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused, capturable=on_cuda)
