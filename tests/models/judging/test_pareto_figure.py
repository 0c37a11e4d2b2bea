"""The picture of the front."""

from pathlib import Path

from PIL import Image

from models.judging.pareto import Budget
from models.judging.pareto_figure import pareto_figure
from tests.models.judging.test_pareto import POINTS, point


def test_the_picture_is_drawn_with_and_without_a_chosen_point(tmp_path: Path) -> None:
    teacher = point("teacher", 1.0, 9000, 4.0)
    whole = Budget(bytes=1000, latency_ms=2.0)
    for best, budget in (("b", whole), (None, Budget(rows_per_second=1.0))):
        target = pareto_figure(tmp_path / "x" / "p.png", POINTS, teacher, ["a", "b", "d"], best, budget, "MAE", "km/h")
        with Image.open(target) as picture:
            assert picture.size[0] > 1000
