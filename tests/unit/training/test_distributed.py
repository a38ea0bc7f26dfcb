"""Device and precision of a training."""

import pytest
import torch

from vkd.io.errors import VKDError
from vkd.training.distributed import accelerator, forget_device


def test_auto_is_never_mps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    try:
        assert accelerator("auto", "fp32", 8).device.type == "cpu"
    finally:
        forget_device()


@pytest.mark.parametrize(("device", "precision"), [("cuda", "fp32"), ("auto", "fp16"), ("cpu", "fp16")])
def test_unavailable_devices_are_refused(monkeypatch: pytest.MonkeyPatch, device: str, precision: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VKDError):
        accelerator(device, precision, 8)
