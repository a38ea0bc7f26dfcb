"""BAM gates: x · (1 + sigmoid(channel · spatial)), against the formula written out."""

import pytest
import torch
from torch import nn

from vkd.models.bam import Gate, add_gates


def test_a_gate_is_the_formula_of_its_two_halves():
    gate = Gate(32).double().eval()
    maps = torch.randn(2, 32, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    channel, spatial = gate.channel(maps), gate.spatial(maps)
    assert channel.shape == (2, 32, 1, 1)
    assert spatial.shape == (2, 1, 5, 3)
    by_hand = torch.empty_like(maps)
    for n in range(2):
        for c in range(32):
            for y in range(5):
                for x in range(3):
                    strength = torch.sigmoid(channel[n, c, 0, 0] * spatial[n, 0, y, x])
                    by_hand[n, c, y, x] = maps[n, c, y, x] * (1 + strength)
    torch.testing.assert_close(gate(maps), by_hand)


def test_a_gate_never_removes_what_it_is_given():
    maps = torch.rand(4, 16, 6, 6) + 0.1
    scale = Gate(16).eval()(maps) / maps
    assert 1 <= scale.min() <= scale.max() <= 2


def test_the_spatial_gate_sees_sixteen_places_around():
    """Two 3×3 convolutions of dilation 4 reach 8 places to each side, every fourth one."""
    gate = Gate(16).eval()
    for parameter in gate.parameters():
        nn.init.ones_(parameter)  # no ReLU stays shut
    maps = torch.ones(1, 16, 21, 21, requires_grad=True)
    gate.spatial(maps)[0, 0, 10, 10].backward()
    assert maps.grad is not None
    rows = maps.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert rows == [2, 6, 10, 14, 18]


def test_gates_are_added_at_the_end_of_layers():
    layers = [nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())]
    add_gates(layers, [16, 32])
    assert [type(layer[-1]) for layer in layers] == [Gate, Gate]
    assert layers[1](torch.randn(2, 32, 4, 4)).shape == (2, 32, 4, 4)


def test_a_width_for_each_layer():
    with pytest.raises(ValueError, match="shorter"):
        add_gates([nn.Sequential(), nn.Sequential()], [16])
