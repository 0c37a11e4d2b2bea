"""Convolutions with batch normalisation, a mean over the image, a linear head.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 86(11), 1998, with
batch normalisation (Ioffe and Szegedy, ICML 2015) and global average pooling (Lin et al., ICLR 2014).
"""

from itertools import pairwise

from torch import Tensor, nn

from models.data.shape import ImageShape
from models.families.cnn.card import CnnConfig


class Cnn(nn.Module):
    """3 x 3 convolutions of growing width; the image is halved after each but the last while it has two pixels."""

    def __init__(self, shape: ImageShape, config: CnnConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = min(shape.height, shape.width)
        widths = (shape.num_channels, *config.widths)
        for place, (before, after) in enumerate(pairwise(widths), 1):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            if size >= 4 and place < len(config.widths):
                layers.append(nn.MaxPool2d(2))
                size //= 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.widths[-1], shape.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] in 0..1; returns logits [B, K]."""
        return self.forward_hidden(x)[0]

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the pooled features [B, D]."""
        hidden = self.features(x).mean(dim=(2, 3))  # [B, D]
        return self.head(self.dropout(hidden)), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: the filters of every convolution."""
        places = [place for place, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]
        groups = {}
        for place, following in zip(places, [*places[1:], None], strict=True):
            reader = "head.weight" if following is None else f"features.{following}.weight"
            norm = [
                (f"features.{place + 1}.{name}", 0, 0) for name in ("weight", "bias", "running_mean", "running_var")
            ]
            groups[f"features.{place}"] = [(f"features.{place}.weight", 0, 0), *norm, (reader, 1, 0)]
        return groups
