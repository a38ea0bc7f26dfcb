"""Everything needed to go on training, in one file that is replaced in one step: training.pt.

It holds the weights too, although model.safetensors has them: a kill between the writing of two files could
leave weights of one epoch beside an optimiser of another.
"""

import os
import pickle
from pathlib import Path
from typing import Any

from vkd.io.errors import VKDError
from vkd.io.files import atomic_path

NAME = "training.pt"
_VERSION = 1


def check(folder: Path) -> None:
    """Raises VKDError for a folder with a checkpoint that is no run: training would replace its weights."""
    if (folder / NAME).is_file() or (folder / "settings.json").exists():
        return
    if (folder / "config.json").exists():
        raise VKDError(
            f"{folder} holds a checkpoint that is no run, and training would replace it: train in another "
            "folder."
        )


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Writes the state (tensors, numbers, texts, in dicts and lists) atomically.

    Raises OSError if it cannot be written; the older file is unchanged then.
    """
    import torch  # here and below, so that looking at runs needs no torch

    path = folder / NAME
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save({"version": _VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{path} could not be written ({error}): make room on the disk and go on from the last save."
        ) from error
    return path


def load(folder: Path) -> dict[str, Any] | None:
    """Loads the last saved state on the CPU; None for a folder without one.

    Raises VKDError for a file that is damaged or of another version.
    """
    import torch

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise VKDError(
            f"{path} is damaged ({type(error).__name__}): delete it to start the run anew."
        ) from error
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise VKDError(
            f"{path} was written by another version of vkd: finish that run there, or delete the file."
        )
    return state


def random_state() -> dict[str, Any]:
    """Returns torch's random states, for backbones with dropout; all else has generators of its own."""
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Restores torch's random states, as far as this machine has the same devices."""
    import torch

    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
