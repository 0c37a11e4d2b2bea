"""The position of a vehicle at the last of T fixes, in metres from the origin of its fixes."""

from models.tasks.tensors import TensorTask

TASK = TensorTask("localise", "value")
