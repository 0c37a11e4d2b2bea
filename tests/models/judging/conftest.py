"""The toy parcel of the artifact tests; by path, because tests are no package."""

import runpy
from pathlib import Path

_TOY = runpy.run_path(str(Path(__file__).parents[1] / "artifact" / "conftest.py"))
toy_card, toy_recipe, toy_snapshot, pack_toy = (
    _TOY[name] for name in ("toy_card", "toy_recipe", "toy_snapshot", "pack_toy")
)
