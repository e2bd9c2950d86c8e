"""Muon: orthogonal steps, the same state after a restart, descent on a small problem."""

import copy

import pytest
import torch

from deal import optimizer
from deal.model import DEAL


@pytest.mark.parametrize("shape", [(8, 300), (300, 8), (16, 16)])
def test_orthogonalise_evens_out_singular_values(shape):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    spread = left @ torch.diag(torch.logspace(0, -1, min(shape))) @ right
    values = torch.linalg.svdvals(optimizer.orthogonalise(spread))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_wide_layers_and_the_others():
    model = DEAL("gray")
    muon = optimizer.make("muon", model, 1e-3)
    wide, rest = (group["params"] for group in muon.param_groups)
    shapes = sorted(tuple(p.shape) for p in wide)
    assert shapes == sorted([(8, 4, 9, 9), (128, 8, 9, 9)] * 2 + [(128, 128, 3, 3)] * 2)
    assert len(wide) + len(rest) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_functions_of_the_noise_level_may_step_further(name):
    model = DEAL("gray")
    functions = {*model.kappa.parameters(), *model.scaling.parameters()}
    optim = optimizer.make(name, model, 1e-3, noise_lr=10.0)
    assert sum(len(group["params"]) for group in optim.param_groups) == len(list(model.parameters()))
    optimizer.set_lr(optim, 5e-4)
    for group in optim.param_groups:
        for p in group["params"]:
            assert group["lr"] == (5e-3 if p in functions else 5e-4)
    before = model.kappa.coefficients.detach().clone()
    model.lmbda(torch.tensor([5 / 255])).sum().backward()
    optim.step()
    assert (model.kappa.coefficients - before).abs().max().item() == pytest.approx(5e-3, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_descends_and_resumes(name):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3), torch.nn.Conv2d(16, 2, 3))
    x, target = torch.randn(4, 4, 9, 9), torch.randn(4, 2, 5, 5)

    def descend(net, optim, steps):
        for _ in range(steps):
            optim.zero_grad()
            loss = (net(x) - target).square().mean()
            loss.backward()
            optim.step()
        return loss.item()

    optim = optimizer.make(name, net, 1e-2)
    first = descend(net, optim, 1)
    descend(net, optim, 5)
    again, restored = copy.deepcopy(net), None
    restored = optimizer.make(name, again, 1e-2)
    restored.load_state_dict(copy.deepcopy(optim.state_dict()))
    assert descend(net, optim, 40) == descend(again, restored, 40)
    assert descend(net, optim, 1) < 0.8 * first


def test_an_unknown_name():
    with pytest.raises(ValueError, match="'adam' or 'muon'"):
        optimizer.make("sgd", DEAL("gray"), 1e-3)
