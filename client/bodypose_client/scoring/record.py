"""The record of an evaluation, `bodypose-evaluation/1`: of a server, or of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .coco_eval import CocoMetrics

SCHEMA = "bodypose-evaluation/1"


def evaluation_record(
    metrics: CocoMetrics, split: str, model: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """The record, ready for `json.dumps`.

    Args:
        metrics: COCO's ten numbers, in 0..1, and how many images and people they are of.
        split: name of the annotations file.
        model: `name`, and what else tells the model from others, such as `sha256`.
        more: what only this kind of evaluation knows, such as the server's address.
    """
    return {
        "schema": SCHEMA,
        "split": split,
        "images": metrics.images,
        "people": metrics.people,
        "metrics": metrics.numbers,
        "model": dict(model),
        **more,
    }
