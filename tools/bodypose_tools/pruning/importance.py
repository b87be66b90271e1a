"""Importance scores: one number per channel, comparable across layers.

Source: TAO's `min_weight` pruning (after Molchanov et al. 2016, arXiv:1611.06440), as described in
the project's reference notes: a norm per filter, normalised within its layer, and combined over
layers that must be cut alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from .channel_graph import ChannelGraph, WeightedLayer
from .settings import Equalization, Importance, Normalizer

Floats = NDArray[np.float64]


def weight_stats(
    model: keras.Model, graph: ChannelGraph, importance: Importance
) -> dict[str, Floats]:
    """A number >= 0 per output channel of each layer that is scored, by layer name.

    `l2` and `l1` are norms of a convolution's filters; biases and batch norm do not count.
    `bn-gamma` is the size of batch norm's factors: channels without batch norm have no number.
    """
    if importance is Importance.BN_GAMMA:
        return {
            layer.name: _gamma_sizes(model, layer)
            for layer in graph.weighted.values()
            if layer.kind is layers.BatchNormalization
        }
    power = 1 if importance is Importance.L1 else 2
    stats = {}
    for layer in graph.producers:
        kernel = np.asarray(model.get_layer(layer.name).get_weights()[0], np.float64)
        filters = np.moveaxis(kernel, layer.filter_axis, 0)
        stats[layer.name] = np.linalg.norm(filters.reshape(len(filters), -1), power, axis=1)
    return stats


def channel_scores(
    graph: ChannelGraph,
    stats: Mapping[str, Floats],
    normalizer: Normalizer | None,
    equalization: Equalization,
) -> Floats:
    """The score per channel of the graph; NaN where no layer is scored."""
    channels = np.concatenate([graph.weighted[name].outputs for name in stats])
    values = np.concatenate([_normalized(stat, normalizer) for stat in stats.values()])
    counts = np.bincount(channels, minlength=graph.num_channels)
    match equalization:
        case Equalization.UNION:
            scores = np.zeros(graph.num_channels)
            np.maximum.at(scores, channels, values)
        case Equalization.INTERSECTION:
            scores = np.full(graph.num_channels, np.inf)
            np.minimum.at(scores, channels, values)
        case Equalization.ARITHMETIC_MEAN:
            scores = np.bincount(channels, values, graph.num_channels) / np.maximum(counts, 1)
        case Equalization.GEOMETRIC_MEAN:
            logs = np.log(np.maximum(values, np.finfo(float).tiny))
            means = np.bincount(channels, logs, graph.num_channels) / np.maximum(counts, 1)
            scores = np.exp(means)
    return np.where(counts > 0, scores, np.nan)


def _normalized(stat: Floats, normalizer: Normalizer | None) -> Floats:
    if normalizer is None or not stat.any():
        return stat  # a layer of zeros has nothing to normalise by
    if normalizer is Normalizer.MAX:
        return stat / stat.max()
    return stat * (len(stat) / float(np.linalg.norm(stat)))


def _gamma_sizes(model: keras.Model, layer: WeightedLayer) -> Floats:
    norm = model.get_layer(layer.name)
    if not norm.scale:
        return np.ones(len(layer.outputs))
    sizes: Floats = np.abs(np.asarray(keras.ops.convert_to_numpy(norm.gamma), np.float64))
    return sizes
