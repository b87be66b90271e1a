"""The part of a training spec that describes a network."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

HeatmapLoss = Literal["cross_entropy", "focal"]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_bools(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, which would count as 1."""
        kind = cls.model_fields[info.field_name or ""].annotation
        is_map = isinstance(value, dict) and get_origin(kind) is not None
        values = value.values() if is_map else [value]
        if bool not in (kind, *get_args(kind)) and any(isinstance(each, bool) for each in values):
            raise ValueError(f"expected no true or false, got {value!s:.40}")
        return value


class NetworkConfig(Section):
    """The section `model` of a spec: which network is built."""

    architecture: Literal["bodypose-s", "bodypose-vgg19"] = "bodypose-s"
    backbone: Literal["movenet", "efficientnet-lite0"] = Field(
        "movenet", description="trunk of bodypose-s; pretrained_weights must be of the same one"
    )
    stages: int = Field(3, ge=2, le=7, description="initial prediction + 1..6 refinements")
    heatmap_loss: HeatmapLoss = Field(
        "cross_entropy",
        description="loss of bodypose-s's heatmaps; focal keeps the high peaks of frozen MoveNet"
        " heads, and is less accurate for joints that are learnt from scratch",
    )
    kernel_regularization_factor: float = Field(0.0, ge=0)
    regularization_type: Literal["l1", "l2"] = "l1"

    @model_validator(mode="after")
    def _squared_errors_are_not_focal(self) -> NetworkConfig:
        if self.architecture == "bodypose-vgg19" and self.heatmap_loss == "focal":
            raise ValueError(
                "heatmap_loss: bodypose-vgg19 is trained with the squared error; leave the key out"
            )
        return self
