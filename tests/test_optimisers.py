"""Optimisers: Muon's step for the hidden layers, Adam's for the rest, on a model whose convolutions are channels-last."""

import pytest
import torch
from conftest import tiny_config

from liif_cli.model import SRModel
from liif_cli.optimisers import MuonAdam, make_optimiser
from liif_cli.recipe import OptimiserConfig


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


def test_muons_matrix_of_a_convolution_is_its_output_channels_by_the_rest(model):
    """The same step as on a copy that is stored in torch's usual order, where the matrix is a plain reshape."""
    weight = model.encoder.body[0].body[0].weight
    matrix = torch.nn.Parameter(weight.detach().contiguous().reshape(len(weight), -1).clone())
    matrix.grad = weight.grad.contiguous().reshape(len(weight), -1)
    torch.optim.Muon([matrix], lr=1e-3, weight_decay=0, adjust_lr_fn="match_rms_adamw").step()
    make_optimiser(OptimiserConfig("muon", lr=1e-3), list(model.parameters())).step()
    # Newton-Schulz runs in bf16, where the order of the columns rounds otherwise
    assert torch.allclose(weight.detach().flatten(1), matrix.detach(), atol=1e-5)


def test_the_learning_rate_is_set_for_both(model):
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = make_optimiser(OptimiserConfig("muon", lr=1e-3), list(model.parameters()))
    optimiser.param_groups[0]["lr"] = 0.0
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_adam_is_adam(model):
    assert type(make_optimiser(OptimiserConfig(), list(model.parameters()))) is torch.optim.Adam
    assert type(make_optimiser(OptimiserConfig("adamw"), list(model.parameters()))) is torch.optim.AdamW
