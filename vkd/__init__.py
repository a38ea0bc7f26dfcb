"""VKD: robust re-identification by multiple-views knowledge distillation (arXiv 2007.04174)."""

__version__ = "0.1.0"
