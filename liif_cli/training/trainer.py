"""One training step, and the state that makes it repeatable: weights, EMA, optimiser, iteration."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from liif_cli.errors import UsageError
from liif_cli.machine.precision import fast_bf16_cpu
from liif_cli.models.model import SRModel
from liif_cli.training.optimisers import factor, make_optimiser
from liif_cli.training.pairs import Batch
from liif_cli.training.recipe import EMAConfig, TrainConfig


def charbonnier(predicted: Tensor, wanted: Tensor) -> Tensor:
    """sqrt(difference^2 + 1e-6), mean: L1 that is smooth at zero."""
    return ((predicted - wanted).square() + 1e-6).sqrt().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "charbonnier": charbonnier}


class Objective(nn.Module):
    """Loss and squared error of a batch, as one module, so that DistributedDataParallel can wrap it.

    The loss is of colours in the model's normalised space, as the paper's; forward and loss run in `precision` where torch's
    autocast allows it, the loss itself always in float32.
    """

    def __init__(self, model: SRModel, loss: str = "l1", precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        self.loss = LOSSES[loss]
        self.precision = precision

    def forward(self, lr: Tensor, rgb: Tensor, position: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """lr (B, 3, L, L) uint8, rgb (B, Q, 3) uint8, position and cell (B, Q, 2) float64 in LR pixels.

        Returns the loss and the mean squared error in RGB (0 to 1), both scalars.
        """
        model = self.model
        image = (lr.float() / 255).contiguous(memory_format=torch.channels_last)
        wanted = (rgb.float() / 255 - model.mean) / model.std
        with torch.autocast(lr.device.type, self.precision, enabled=self.precision != torch.float32):
            predicted = model.decoder.query(model.encode(image), position, cell)
        predicted = predicted.float()
        with torch.no_grad():
            error = ((predicted - wanted) * model.std).square().mean()
        return self.loss(predicted, wanted), error


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """The model in training. `step` is the whole of one iteration; `state` and `restore` are exact opposites."""

    def __init__(self, config: TrainConfig, model: SRModel, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = model.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.objective: nn.Module = Objective(self.model, config.loss, DTYPES[config.precision])
        self.forward: nn.Module = torch.compile(self.objective) if config.compile else self.objective  # type: ignore[assignment]
        self.optimiser = make_optimiser(config.optimiser, list(self.model.parameters()))
        self.ema = make_ema(self.model, config.ema)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.iteration = 0
        self.steps_before = 0
        self.source = ""

    def distribute(self, world: int) -> None:
        """Let gradients be averaged over `world` processes, which must all hold the same weights by now."""
        if world > 1:
            self.forward = nn.parallel.DistributedDataParallel(self.forward)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One optimiser step at the schedule's learning rate. Returns loss and RGB squared error, scalars on the device."""
        self._set_rate()
        loss, error = self.forward(batch.lr, batch.rgb, batch.position, batch.cell)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        if self.config.optimiser.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.iteration += 1
        return loss.detach(), error

    def _set_rate(self) -> None:
        config = self.config
        rate = config.optimiser.lr * factor(config.schedule, self.iteration, config.iterations)
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def start_over(self, source: str) -> str:
        """Go to iteration 0 of the schedule, with data that was not seen yet; remembers and returns where this started from."""
        self.steps_before, self.iteration, self.source = self.steps_before + self.iteration, 0, source
        return source

    @property
    def published(self) -> SRModel:
        """The model that a checkpoint shows: the EMA's if there is one."""
        module: Any = self.ema.module if self.ema is not None else self.model
        return module  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on; data order and chance follow from the seed and the iteration."""
        return {
            "iteration": self.iteration,
            "steps_before": self.steps_before,
            "source": self.source,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> str:
        """Take such a state; returns where it started from. Raises `UsageError` for that of another kind of optimiser."""
        if state["optimiser"].keys() != self.optimiser.state_dict().keys():
            raise UsageError(
                f"that run's optimiser was not {self.config.optimiser.name}",
                hint="--init its checkpoint starts a new one",
            )
        self.iteration, self.steps_before = state["iteration"], state.get("steps_before", 0)
        self.source = state.get("source", "")
        self.model.load_state_dict(state["model"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        return self.source


def settle(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with what was left to the machine decided: `auto` precision is bf16 where the device multiplies it natively,
    fp16 on CUDA devices that have only that, else fp32."""
    if config.precision != "auto":
        return config
    fast = device.type == "cpu" and fast_bf16_cpu()
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        fast = capability >= (8, 0)
        if (7, 0) <= capability < (8, 0):
            return replace(config, precision="fp16")
    return replace(config, precision="bf16" if fast else "fp32")


class MovingAverage(AveragedModel):
    """`AveragedModel` with a decay that warms up. Its count is read on the CPU, where it lies: torch's own update sends it to
    the device and back, and so waits for a GPU at every step."""

    def __init__(self, model: nn.Module, config: EMAConfig) -> None:
        super().__init__(model)
        self.config = config

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of `model`: all of them the first time, then 1 - decay of them."""
        n, config = int(self.n_averaged), self.config
        decay = min(config.decay, (1 + n) / (10 + n)) if config.warmup else config.decay
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay if n else 1.0)
        self.n_averaged += 1


def make_ema(model: SRModel, config: EMAConfig) -> MovingAverage | None:
    """The moving average of the model's weights, or None where the config asks for none."""
    return MovingAverage(model, config) if config.decay else None


def psnr(error: float) -> float:
    """PSNR in dB of a mean squared error of values in [0, 1]."""
    return -10 * math.log10(max(error, 1e-12))
