"""Incidents: for each of N stations, whether one blocks the road to the next.

Logits out of the network, probabilities on the wire; the threshold of the alarm is chosen on validation
(`artifact/alarms.py` counts, `artifact/calibrations/detect.py` chooses) and travels in the manifest.
"""

from models.tasks.tensors import TensorTask

TASK = TensorTask("detect", "binary")
