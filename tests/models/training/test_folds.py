"""k-fold evidence: blocks in time with a gap, classes shared out alike, through the one loop."""

from pathlib import Path

import numpy as np
import pytest

from models import catalog
from models.recipe import TrainRecipe
from models.training.build import build_network
from models.training.folds import cross_validate, stratified, time_blocks
from models.training.objective import TaskLoss


def test_time_blocks_cover_everything_once_and_keep_their_distance():
    folds = list(time_blocks(103, 4, gap=5))
    assert np.array_equal(np.concatenate([held for _, held in folds]), np.arange(103))
    for rows, held in folds:
        assert np.array_equal(held, np.arange(held[0], held[-1] + 1)), "a block in time"
        assert np.abs(rows[:, None] - held).min() > 5


def test_stratified_folds_share_classes_out_alike():
    labels = np.array([0] * 30 + [1] * 12 + [-1] * 9)
    folds = list(stratified(labels, 3, seed=1))
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(42)), "unlabelled ones are never held back"
    for rows, held in folds:
        assert not set(rows) & set(held)
        assert np.bincount(labels[held]).tolist() == [10, 4]
        assert (labels[rows] == -1).sum() == 9


@pytest.mark.parametrize(("family", "task"), [("linear", "forecast"), ("logistic", "classify")])
def test_every_fold_gives_a_result_and_is_not_trained_twice(family, task, tmp_path: Path, request):
    data = request.getfixturevalue({"forecast": "traffic", "classify": "digits"}[task])
    card = catalog.family(task, family)
    loss = "mae" if task == "forecast" else "cross_entropy"
    recipe = TrainRecipe(num_epochs=2, num_folds=3, loss=loss)
    objective = TaskLoss(task, loss, data.scaler)

    def run():
        def build():
            return build_network(card, data.shape, card.config(), data.scaler)

        return list(cross_validate(task, build, objective, data.train, recipe, tmp_path, gap=12))

    results = run()
    assert [result.number for result in results] == [1, 2, 3]
    assert all(np.isfinite(result.val_loss) and result.num_val > 0 for result in results)
    stamps = [(tmp_path / f"fold_{number}" / "done.json").stat().st_mtime_ns for number in (1, 2, 3)]
    assert run() == results
    assert stamps == [(tmp_path / f"fold_{number}" / "done.json").stat().st_mtime_ns for number in (1, 2, 3)]


def test_a_wrong_number_of_folds_is_refused(traffic, tmp_path: Path):
    objective = TaskLoss("forecast", "mae", traffic.scaler)
    with pytest.raises(ValueError, match=r"train\.num_folds: expected 2"):
        list(cross_validate("forecast", lambda: objective, objective, traffic.train, TrainRecipe(), tmp_path))
