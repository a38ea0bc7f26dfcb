"""The version of the package, in a module that imports nothing, so that every layer may use it."""

__version__ = "0.2.0.dev0"
