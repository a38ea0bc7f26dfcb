"""VKD: robust re-identification by multiple-views knowledge distillation (arXiv 2007.04174)."""

from vkd.version import __version__

__all__ = ["__version__"]
