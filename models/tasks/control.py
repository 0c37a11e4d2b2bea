"""Signal management: which phase a junction should show next, one of K."""

from models.tasks.tensors import TensorTask

TASK = TensorTask("control", "choice")
