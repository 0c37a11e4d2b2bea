"""Incidents: for each of N stations, whether traffic behind it is disturbed by one."""

from models.tasks.tensors import TensorTask

TASK = TensorTask("detect", "binary")
