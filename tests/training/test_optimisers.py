"""Optimisers: Muon's step for the hidden layers, Adam's for the rest, on a model whose convolutions are channels-last."""

import pytest
import torch
from tiny_models import tiny_config

from liif_cli.models.model import SRModel
from liif_cli.training.optimisers import MuonAdam, make_optimiser, orthogonal, set_rate
from liif_cli.training.recipe import OptimiserConfig


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SRModel(tiny_config()).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def orthogonality(step):
    """The singular values of a step, as a matrix (out, in * k * k), over their mean."""
    values = torch.linalg.svdvals(step.flatten(1))
    return values / values.mean()


def test_muon_makes_orthogonal_steps_of_adams_size_in_the_hidden_layers(model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = make_optimiser(OptimiserConfig("muon", lr=1e-3), list(model.parameters()))
    assert isinstance(optimiser, MuonAdam)
    optimiser.step()
    hidden = set()
    for name, parameter in model.named_parameters():
        step = parameter.detach() - before[name]
        assert step.abs().max() > 0, name
        if torch.allclose(step.abs(), torch.tensor(1e-3), rtol=1e-3):  # Adam's first step, whatever the gradient
            continue
        hidden.add(name)
        spread = orthogonality(step)
        assert spread.min() > 0.5 and spread.max() < 1.6, name  # torch's Newton-Schulz stops that close to orthogonal
        assert step.square().mean().sqrt().item() == pytest.approx(0.2e-3, rel=0.3), name
    names = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert hidden == names - {"encoder.head.0.weight", "decoder.imnet.layers.4.weight"}


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torchs_own_muon(model, decay):
    """Several, on copies of the weights as torch's takes them: matrices, stored in the usual order."""
    hidden = {name: p for name, p in model.named_parameters() if p.ndim > 1 and 3 not in p.shape[:2]}
    matrices = {name: torch.nn.Parameter(p.detach().contiguous().flatten(1).clone()) for name, p in hidden.items()}
    oracle = torch.optim.Muon(matrices.values(), lr=1e-3, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    ours = make_optimiser(OptimiserConfig("muon", lr=1e-3, weight_decay=decay), list(model.parameters()))
    for number in range(4):
        for p, matrix in zip(hidden.values(), matrices.values(), strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(number))
            matrix.grad = p.grad.flatten(1)
        oracle.step()
        ours.step()
    for name, p in hidden.items():  # Newton-Schulz runs in bf16, where the order of a sum's terms shows
        assert torch.allclose(p.detach().flatten(1), matrices[name].detach(), atol=2e-5), name
        assert p.is_contiguous(memory_format=torch.channels_last) or p.ndim == 2


def test_tall_and_broad_matrices_become_orthogonal():
    random = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(2))
    for matrices in (random, random.mT):
        values = torch.linalg.svdvals(orthogonal(matrices).float())
        assert values.min() > 0.5 and values.max() < 1.4


def test_the_learning_rate_is_set_for_both(model):
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = make_optimiser(OptimiserConfig("muon", lr=1e-3), list(model.parameters()))
    set_rate(optimiser, 0.0)
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_adam_is_adam(model):
    assert type(make_optimiser(OptimiserConfig(), list(model.parameters()))) is torch.optim.Adam
    assert type(make_optimiser(OptimiserConfig("adamw"), list(model.parameters()))) is torch.optim.AdamW
