"""Travel times of every edge of a network for the next H slots, from which routes are planned."""

from models.tasks.tensors import TensorTask

TASK = TensorTask("route", "value")
