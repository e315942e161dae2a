"""One training step, and the state that makes it repeatable: weights, EMA, optimiser, iteration, random generator."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from liif_cli.errors import UsageError
from liif_cli.machine.devices import DTYPES
from liif_cli.machine.precision import fast_bf16_cpu
from liif_cli.models.model import SRModel
from liif_cli.training.adversarial import AdversarialObjective
from liif_cli.training.discriminator import Discriminator
from liif_cli.training.objective import Objective, PatchObjective
from liif_cli.training.optimisers import factor, make_optimiser, set_rate
from liif_cli.training.pairs import Batch, Patches
from liif_cli.training.recipe import EMAConfig, TrainConfig

EAGER_STEPS = 3  # before a step is captured on a CUDA device; they choose kernels and allocate workspaces


class Trainer:
    """A model in training. `step` is one iteration; `restore` is the exact inverse of `state`."""

    def __init__(self, config: TrainConfig, model: SRModel, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = model.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(config.frozen) if config.frozen else True)
        self.ema = make_ema(self.model, config.ema)
        self.discriminator = make_discriminator(config, device)
        self.objective = make_objective(self.model, config, self.discriminator, self.ema)
        self.forward: nn.Module = torch.compile(self.objective) if config.compile else self.objective  # type: ignore[assignment]
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(config.optimiser, self.trained)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.iteration = 0
        self.steps_before = 0
        self.source = ""
        self.rate = 0.0
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all patches have the same shape
        self.make: Callable[[Tensor], Batch | Patches] | None = None  # makes batches from tables on the device
        self.captured: CapturedStep | None = None
        capture = config.cuda_graph and not self.scaler.is_enabled() and self.discriminator is None
        self.eager = EAGER_STEPS if device.type == "cuda" and capture else -1

    def distribute(self, world: int) -> None:
        """Average gradients over `world` processes, which must already have the same weights."""
        if world > 1:
            self.eager = -1
            self.forward = nn.parallel.DistributedDataParallel(self.forward)

    def step(self, batch: Batch | Patches | Tensor) -> tuple[Tensor, Tensor]:
        """One optimiser step at the schedule's learning rate. Returns loss and RGB squared error, scalars on the device.

        batch: on the device; or a table, from which `make` makes the batch there as part of the step. On a CUDA device, all
        steps after the first few replay one captured graph, because launching its short kernels one by one would take longer
        than running them.
        """
        self._set_rate()
        tensors = (batch,) if isinstance(batch, Tensor) else batch.tensors()
        if self.eager == 0:
            self.captured = self.captured or CapturedStep(self.update, tensors)
            loss, error = self.captured(tensors)
        elif self.eager > 0:  # on another stream, as capturing requires
            self.eager -= 1
            loss, error = on_side_stream(lambda: self.update(*tensors))
        else:
            loss, error = self.update(*tensors)
        self.iteration += 1
        return loss, error

    def update(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward, optimiser and EMA for a batch's tensors (or its table), at the current learning rate."""
        if self.make is not None and len(tensors) == 1:
            tensors = self.make(*tensors).tensors()
        loss, error = self.forward(*tensors)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        if self.config.optimiser.clip:
            nn.utils.clip_grad_norm_(self.trained, self.config.optimiser.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        if isinstance(self.objective, AdversarialObjective):
            self.objective.learn()
        return loss.detach(), error

    def _set_rate(self) -> None:
        """Set the values that change from step to step: the learning rates and the share of the EMA's update."""
        config = self.config
        self.rate = config.optimiser.lr * factor(config.schedule, self.iteration, config.iterations)
        set_rate(self.optimiser, self.rate)
        if self.discriminator is not None:
            set_rate(self.discriminator.optimiser, self.rate / config.optimiser.lr * config.adversarial.lr)
        if self.ema is not None:
            self.ema.next()

    def start_over(self, source: str) -> str:
        """Go back to iteration 0 of the schedule, with data not seen yet. Keeps and returns `source`."""
        self.steps_before, self.iteration, self.source = self.steps_before + self.iteration, 0, source
        return source

    @property
    def published(self) -> SRModel:
        """The model that a checkpoint publishes: the EMA's if there is one."""
        module: Any = self.ema.module if self.ema is not None else self.model
        return module  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on. The data follow from the seed and the iteration."""
        return {
            "iteration": self.iteration,
            "steps_before": self.steps_before,
            "source": self.source,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "discriminator": self.discriminator.state() if self.discriminator is not None else None,
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> str:
        """Load a state from `state`, and return its source. Raises `UsageError` if it belongs to another kind of optimiser."""
        if state["optimiser"].keys() != self.optimiser.state_dict().keys():
            raise UsageError(
                f"cannot load that run's state: its optimiser was not {self.config.optimiser.name}",
                hint="start a new run from its checkpoint",
                remedy="init",
            )
        self.iteration, self.steps_before = state["iteration"], state.get("steps_before", 0)
        self.source = state.get("source", "")
        self.model.load_state_dict(state["model"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.discriminator is not None and state.get("discriminator") is not None:
            self.discriminator.restore(state["discriminator"])
        torch.set_rng_state(state["rng"])
        return self.source


def settle(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with `auto` precision resolved for the device.

    It becomes bf16 if the device multiplies bf16 natively, fp16 on CUDA devices that have only fp16, otherwise fp32.
    """
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
    """`AveragedModel` with a decay that warms up. Call `next` before each update.

    The count of updates stays on the CPU: torch's own update copies it to the device and back, which waits for a GPU in every
    step.
    """

    def __init__(self, model: nn.Module, config: EMAConfig) -> None:
        super().__init__(model)
        self.config = config
        self.share = torch.ones((), device=next(model.parameters()).device)  # a tensor, for the captured step

    def next(self) -> None:
        """Count an update, and set the model's share in it: 1 the first time, then 1 - decay."""
        n, config = int(self.n_averaged), self.config
        decay = min(config.decay, (1 + n) / (10 + n)) if config.warmup else config.decay
        self.share.fill_(1 - decay if n else 1.0)
        self.n_averaged += 1

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Add the weights of `model` to the average, with the share that `next` has set."""
        averages: list[Tensor] = list(self.module.parameters())
        steps = torch._foreach_sub(list(model.parameters()), averages)
        torch._foreach_mul_(steps, self.share)
        torch._foreach_add_(averages, steps)


class CapturedStep:
    """A function of tensors as a CUDA graph, replayed on copies of its arguments, whose shapes must not change."""

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]], arguments: Sequence[Tensor]) -> None:
        self.arguments = [argument.clone() for argument in arguments]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = function(*self.arguments)

    def __call__(self, arguments: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Replay the function, side effects included, and return its results for `arguments`."""
        for own, given in zip(self.arguments, arguments, strict=True):
            own.copy_(given)
        self.graph.replay()
        loss, error = self.results
        return loss.clone(), error.clone()


def on_side_stream(function: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Call `function` on a separate stream, after the current stream's earlier work and before its later work."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = function()
    torch.cuda.current_stream().wait_stream(stream)
    return results


def make_objective(
    model: SRModel, config: TrainConfig, discriminator: Discriminator | None = None, ema: MovingAverage | None = None
) -> nn.Module:
    """The loss that the config names: over sampled queries, or over whole patches if `queries` is 0.

    discriminator: for adversarial training, whose loss also uses the moving average `ema`.
    """
    precision = DTYPES[config.precision]
    if config.data.queries:
        return Objective(model, config.loss, precision)
    if discriminator is None:
        return PatchObjective(model, config.loss, precision, config.fourier)
    average: Any = None if ema is None else lambda: ema.module
    return AdversarialObjective(
        model, config.loss, precision, config.fourier, config.adversarial, discriminator, average
    )


def make_discriminator(config: TrainConfig, device: torch.device) -> Discriminator | None:
    """The discriminator of adversarial training, or None if its weight is 0."""
    if not config.adversarial.weight:
        return None
    precision = torch.float32 if config.precision == "fp16" else DTYPES[config.precision]
    return Discriminator(config.adversarial, device, precision)


def make_ema(model: SRModel, config: EMAConfig) -> MovingAverage | None:
    """The moving average of the model's weights, or None if its decay is 0."""
    return MovingAverage(model, config) if config.decay else None


def psnr(error: float) -> float:
    """PSNR in dB for a mean squared error of values in [0, 1]."""
    return -10 * math.log10(max(error, 1e-12))
