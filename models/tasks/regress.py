"""One quantity of a row of a table: its features in, its value out."""

from models.tasks.tensors import TensorTask

TASK = TensorTask("regress", "value")
