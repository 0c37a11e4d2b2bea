"""Marks a graph's weights with its owner's bits; a copy is recognised, in int8 too.

Every bit is the parity of the lattice cell in which one random projection of all weights lies: quantisation index
modulation with a secret dither (Chen & Wornell, IEEE Transactions on Information Theory 2001), on weights of a network
as in Uchida et al., Embedding Watermarks into Deep Neural Networks, ICMR 2017, but after training, by the smallest
change that puts all projections into their cells at once. Projections, dither and 64 pilot bits come from the key; the
32 owner's bits are free, e.g. whom a copy was given to.

A cell is 0.2 of the weights' own scale, so wide that rounding to int8 moves a projection by a small part of it only.
Tensors are told apart by their shape alone and those of one shape are added up: quantising renames and reorders them.
With a key of somebody else, or without a mark, each pilot agrees by chance, whatever the weights are, so the p-value is
the tail of a binomial. It means something for a key that was fixed before: who may try keys finds one that agrees.

It survives int8, float16, and noise or fine-tuning far below the weights' scale. It does not survive training on,
pruning what was not pruned, distillation, or somebody who permutes or rescales hidden units.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from models.compression.weights import Weight, weights_of, write_weight

NUM_PILOTS, NUM_OWNER_BITS = 64, 32
NUM_BITS = NUM_PILOTS + NUM_OWNER_BITS
STEP = 0.2  # of the root mean square of a tensor's weights
MAX_POSITIONS = 1 << 16  # of one shape that carry the mark, evenly spread
MIN_POSITIONS = 32 * NUM_BITS  # with fewer the change would be above two percent of the weights
_NUM_ROUNDS = 3  # the change moves the scale of the tensors a little, so the rest is put right again


class WatermarkError(ValueError):
    """A graph that has too few weights to carry a mark, or owner's bits that are no 32 bits."""


@dataclass(frozen=True)
class Match:
    """What a key finds in a graph.

    bits: the owner's 32 bits as they are read; of use only where the pilots agree
    num_agreeing: how many of `num_pilots` pilot bits are as the key says
    p_value: probability of so many or more in a graph that does not carry this key's mark
    """

    bits: int
    num_agreeing: int
    num_pilots: int
    p_value: float

    @property
    def is_marked(self) -> bool:
        """Whether chance is ruled out: less than one in a thousand million."""
        return self.p_value < 1e-9


def embed(model: bytes, key: bytes, owner_bits: int) -> bytes:
    """The float graph with the mark of `key` in its weights; weights that are zero stay zero.

    key: secret, 16 bytes or more. owner_bits: 0 … 2^32 - 1. Raises WatermarkError.
    """
    if not 0 <= owner_bits < 1 << NUM_OWNER_BITS:
        raise WatermarkError(f"owner's bits: expected 0 to {(1 << NUM_OWNER_BITS) - 1}, got {owner_bits}")
    graph = onnx.load_from_string(model)
    wished = np.concatenate([_pilots(key), _unpacked(owner_bits.to_bytes(NUM_OWNER_BITS // 8, "big"))])
    for _ in range(_NUM_ROUNDS):
        weights = _carriers(graph)
        _move(weights, key, _distance(_project(weights, key), key, wished))
        for weight in weights:
            write_weight(graph, weight)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def check(model: bytes, key: bytes) -> Match:
    """What `key` finds in this graph, float or quantised. Raises WatermarkError for a graph with too few weights."""
    cells = np.rint(2 * (_project(_carriers(onnx.load_from_string(model)), key) / STEP - _dither(key)))
    bits = (cells.astype(np.int64) % 2).astype(np.uint8)
    num_agreeing = int((bits[:NUM_PILOTS] == _pilots(key)).sum())
    owner_bits = int.from_bytes(np.packbits(bits[NUM_PILOTS:]).tobytes(), "big")
    return Match(owner_bits, num_agreeing, NUM_PILOTS, binomial_tail(num_agreeing, NUM_PILOTS))


def binomial_tail(num_agreeing: int, num_bits: int) -> float:
    """Probability that at least `num_agreeing` of `num_bits` fair coins show heads."""
    return sum(math.comb(num_bits, count) for count in range(num_agreeing, num_bits + 1)) / 2.0**num_bits


def _carriers(graph: onnx.ModelProto) -> list[Weight]:
    """The graph's weights, if there are enough. Weights of one shape share the places that carry the mark."""
    weights = weights_of(graph)
    num_positions = sum(min(math.prod(shape), MAX_POSITIONS) for shape in {weight.values.shape for weight in weights})
    if num_positions < MIN_POSITIONS:
        raise WatermarkError(f"watermark: expected at least {MIN_POSITIONS} weights, got {num_positions}")
    return weights


def _project(weights: list[Weight], key: bytes) -> NDArray[np.float64]:
    """Every projection of all weights, each tensor on its own scale. [K]"""
    total = np.zeros(NUM_BITS)
    for signs, group in _groups(weights, key):
        total += signs @ sum(_places(weight.values).ravel() / _scale(weight) for weight in group)
    return total / math.sqrt(_num_places(weights))


def _distance(projections: NDArray[np.float64], key: bytes, wished: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each projection is from the middle of the nearest cell that says the wished bit. [K]"""
    half_cells = 2 * (projections / STEP - _dither(key))
    nearest = 2 * np.rint((half_cells - wished) / 2) + wished
    return (nearest - half_cells) * STEP / 2


def _move(weights: list[Weight], key: bytes, distance: NDArray[np.float64]) -> None:
    """Change the weights in place by the least, relative to their scales, that moves each projection by its distance.

    With rows of signs A and what may change M, the change is M Aᵀ (A M Aᵀ)⁻¹ of the distance.
    """
    num_places, gram = _num_places(weights), np.zeros((NUM_BITS, NUM_BITS))
    for signs, group in _groups(weights, key):
        free = sum((_places(weight.values).ravel() != 0).astype(np.float64) for weight in group)
        gram += (signs * free) @ signs.T / num_places
    share = np.linalg.solve(gram, distance) / math.sqrt(num_places)
    for signs, group in _groups(weights, key):
        change = share @ signs
        for weight in group:
            places = _places(weight.values)
            places += np.where(places != 0, change.reshape(places.shape) * _scale(weight), 0)


def _groups(weights: list[Weight], key: bytes) -> Iterator[tuple[NDArray[np.float64], list[Weight]]]:
    """The signs [K, places] of each shape, and the weights of that shape."""
    for shape in sorted({weight.values.shape for weight in weights}):
        group = [weight for weight in weights if weight.values.shape == shape]
        num_places = _places(group[0].values).size
        raw_bits = _stream(key, f"signs {shape}", -(-NUM_BITS * num_places // 8))
        signs = np.unpackbits(np.frombuffer(raw_bits, np.uint8))[: NUM_BITS * num_places].reshape(NUM_BITS, num_places)
        yield 1 - 2 * signs.astype(np.float64), group


def _num_places(weights: list[Weight]) -> int:
    return sum(_places(weight.values).size for weight in weights)


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A view of the values that carry the mark: all, or evenly spread ones of a large tensor."""
    return values.reshape(-1)[:: -(-values.size // MAX_POSITIONS)]


def _scale(weight: Weight) -> float:
    return float(np.sqrt(np.mean(np.square(weight.values)))) or 1.0


def _dither(key: bytes) -> NDArray[np.float64]:
    """Where each lattice begins, as a share of its cell. [K]"""
    return np.frombuffer(_stream(key, "dither", 8 * NUM_BITS), "<u8") / 2.0**64


def _pilots(key: bytes) -> NDArray[np.uint8]:
    return _unpacked(_stream(key, "pilots", NUM_PILOTS // 8))


def _unpacked(content: bytes) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(content, np.uint8))


def _stream(key: bytes, purpose: str, num_bytes: int) -> bytes:
    """Bits that look random to whoever has not the key; SHAKE-256, so the same with every version of every library."""
    return hashlib.shake_256(b"roadworthy watermark 1\n" + key + b"\n" + purpose.encode()).digest(num_bytes)
