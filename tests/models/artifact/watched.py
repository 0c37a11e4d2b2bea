"""A watched hour of six stations, an incident behind the fourth from 19.5 to 39.5 min."""

import numpy as np
from numpy.typing import NDArray

from models.data.card import TensorSpec
from models.data.examples import Examples, ExampleSamples

NUM_MINUTES, NUM_STATIONS = 60, 6
ONSET_MIN, CLEARED_MIN, SEGMENT = 19.5, 39.5, 3


def quiet() -> NDArray[np.float32]:
    """A probability of 0 everywhere."""
    return np.zeros((NUM_MINUTES, NUM_STATIONS), np.float32)


def watched() -> ExampleSamples:
    """Samples in a shuffled order of their rows would be the same: their minute says where they lie."""
    minute = np.arange(1, NUM_MINUTES + 1, dtype=np.float32)
    began = minute > ONSET_MIN
    target = quiet()
    target[began & (minute <= CLEARED_MIN), SEGMENT] = 1
    values = {"incident": 7, "segment": SEGMENT, "onset_min": ONSET_MIN, "cleared_min": CLEARED_MIN, "lanes_blocked": 1}
    facts = {name: np.where(began, value, -1).astype(np.float32) for name, value in values.items()}
    facts |= {"minute": minute, "run": np.zeros(NUM_MINUTES, np.float32)}
    spec = TensorSpec(name="incident", shape=(NUM_STATIONS,))
    examples = Examples({}, target, np.zeros(NUM_MINUTES, np.int64), facts, (), spec)
    return ExampleSamples(examples, np.arange(NUM_MINUTES))
