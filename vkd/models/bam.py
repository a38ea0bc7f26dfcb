"""The bottleneck attention module (BAM, Park et al., BMVC 2018) and the ResNet that carries it."""

import torch
from torch import Tensor, nn

REDUCTION = 16
DILATION = 4


class ChannelGate(nn.Module):
    """Weights channels: maps (n, C, h, w) → (n, C, 1, 1), before the sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.squeeze = nn.Linear(channels, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = maps.mean((-2, -1))
        return self.expand(torch.relu(self.norm(self.squeeze(pooled))))[:, :, None, None]


class SpatialGate(nn.Module):
    """Weights positions: maps (n, C, h, w) → (n, 1, h, w), before the sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.dilate1 = nn.Conv2d(hidden, hidden, 3, padding=DILATION, dilation=DILATION)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.dilate2 = nn.Conv2d(hidden, hidden, 3, padding=DILATION, dilation=DILATION)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.squeeze(maps)))
        hidden = torch.relu(self.norm1(self.dilate1(hidden)))
        hidden = torch.relu(self.norm2(self.dilate2(hidden)))
        return self.expand(hidden)


class Gate(nn.Module):
    """One BAM gate: ``x * (1 + sigmoid(channel(x) * spatial(x)))``, maps (n, C, h, w) → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelGate(channels)
        self.spatial = SpatialGate(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (1 + torch.sigmoid(self.channel(maps) * self.spatial(maps)))


def add_gates(layers: list[nn.Sequential], widths: list[int]) -> None:
    """Adds a gate at the end of each of a ResNet's layers; `widths` are their output channels.

    The gates keep PyTorch's default initialisation: no published weights exist for them alone.
    """
    for layer, width in zip(layers, widths, strict=True):
        layer.add_module("gate", Gate(width))
