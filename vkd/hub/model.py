"""Checkpoints that are loaded from the Hub and uploaded to it in one call."""

import tempfile
from pathlib import Path
from typing import Any, Self

import torch

from vkd.hub import pull, push
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import checkpoint
from vkd.models.checkpoint import Checkpoint


class ReIDModel(Checkpoint):
    """A checkpoint of a folder or of a repository on the Hub."""

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
        strict: bool = True,
        device: str = "cpu",
    ) -> Self:
        """Loads a folder, or a repository (user/name) through the client's cache, in evaluation mode.

        Not `strict`: what the weights lack is initialised at random, with a warning. Raises MissingFileError,
        VKDError for a damaged checkpoint, AccessDeniedError, UnreachableError.
        """
        folder = Path(repo_or_folder)
        if not folder.is_dir():
            if isinstance(repo_or_folder, Path) or repo_or_folder.count("/") != 1:
                raise MissingFileError(f"{repo_or_folder} is neither a folder nor a repository (user/name).")
            folder = pull.fetch(repo_or_folder, revision=revision, token=token, endpoint=endpoint)
        loaded = checkpoint.load(folder, strict=strict, device=device)
        return cls(loaded.net, loaded.config, loaded.folder)

    def push_to_hub(self, repo: str, *, private: bool = True, **options: Any) -> str:
        """Uploads the checkpoint and its card; returns the address of the commit.

        `options` are the other fields of `PushRequest`. A model that was not loaded from a folder, such as
        one made here, is saved to a temporary one first. Raises as `push`, and VKDError if the network
        differs from the weights in its folder.
        """
        if (self.folder / "config.json").is_file():
            saved = checkpoint.load(self.folder).net.state_dict()
            state = self.net.state_dict()
            if not all(torch.equal(tensor, state[name].cpu()) for name, tensor in saved.items()):
                raise VKDError(f"The model differs from the weights in {self.folder}: save it first.")
            return push.push(push.PushRequest(self.folder, repo, private, **options))
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / (self.folder.name or repo.split("/")[-1])
            checkpoint.save(folder, self.net, self.config)
            return push.push(push.PushRequest(folder, repo, private, **options))
