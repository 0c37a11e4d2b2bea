"""The weighted mean of several fitted networks as one module, chosen on validation.

Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble Selection from Libraries of Models, ICML 2004: from nothing, take again
and again, with replacement, the member that makes the mean's validation loss least. Networks and trees err differently.
"""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.data.batches import Samples
from models.training.objective import VAL_BATCH_SIZE, TaskLoss
from models.training.tensors import tensor_batches


class Blend(nn.Module):
    """The mean of its members' outputs, each counted `weights[name]` times."""

    def __init__(self, members: Mapping[str, nn.Module], weights: Mapping[str, int]) -> None:
        super().__init__()
        self.members = nn.ModuleDict({name: members[name] for name in weights})
        self.shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def forward(self, **inputs: Tensor) -> Tensor:
        """The members' inputs; returns their mean output."""
        outputs = [share * self.members[name](**inputs) for name, share in self.shares.items()]
        return torch.stack(outputs).sum(dim=0)


@torch.no_grad()
def choose_members(
    members: Mapping[str, nn.Module], judge: TaskLoss, val: Samples, most: int, device: torch.device
) -> tuple[dict[str, int], float]:
    """How often each member counts, and the validation loss of that mean; `most` members at the most."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in members}
    targets, masks = [], []
    for batch in tensor_batches(val, VAL_BATCH_SIZE, device):
        for name, member in members.items():
            outputs[name].append(member.to(device).eval()(**batch.inputs))
        targets.append(batch.target)
        masks.append(batch.target_mask)
    answers = {name: torch.cat(parts) for name, parts in outputs.items()}
    target, mask = torch.cat(targets), torch.cat(masks)
    chosen: list[str] = []
    total, best = torch.zeros_like(target), float("inf")
    while len(chosen) < most:
        losses = {
            name: float(judge.loss((total + answer) / (len(chosen) + 1), target, mask))
            for name, answer in sorted(answers.items())
        }
        name = min(losses, key=losses.__getitem__)
        if losses[name] >= best:
            break
        best = losses[name]
        chosen.append(name)
        total = total + answers[name]
    return dict(Counter(chosen)), best
