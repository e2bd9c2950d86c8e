"""A colour model made from a gray one does what the gray one does, on each opponent component."""

import pytest
import torch

import deal
from deal.transfer import OPPONENT, SHARES, color_from_gray


def test_filters_act_on_opponent_components():
    gray = deal.load("gray").requires_grad_(False)
    color = color_from_gray(gray, noise=0.0)
    component = torch.rand(1, 1, 32, 32)
    strongest = gray.W.effective_kernels().square().sum(dim=(1, 2, 3)).argsort(descending=True)
    expected = gray.W.bind()(component)[:, strongest]
    first = 0
    for row, count in zip(OPPONENT, SHARES, strict=True):
        found = color.W.bind()(component * row[:, None, None])
        torch.testing.assert_close(found[:, first : first + count], expected[:, :count], rtol=1e-3, atol=1e-5)
        others = torch.cat([found[:, :first], found[:, first + count :]], dim=1)
        assert others.abs().max() < 1e-4 * expected.abs().max()
        first += count


def test_it_is_a_start_for_training():
    made = color_from_gray(deal.load("gray"))
    assert made.kind == "color"
    assert torch.equal(OPPONENT @ OPPONENT.T > 0.5, torch.eye(3) > 0)
    assert all(p.requires_grad and torch.isfinite(p).all() for p in made.parameters())


def test_colour_is_no_start_for_colour():
    with pytest.raises(ValueError, match="gray"):
        color_from_gray(deal.load("color"))
