"""checkpoints/build.py, which is a program and no package, as a module."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
_spec = spec_from_file_location("checkpoints_build", CHECKPOINTS / "build.py")
assert _spec is not None
assert _spec.loader is not None
build = module_from_spec(_spec)
sys.modules[_spec.name] = build
_spec.loader.exec_module(build)
build_demo = build.build_demo
