"""Stands in for the module that exists only inside Triton's Python stub; what model.py uses."""

from __future__ import annotations

from typing import ClassVar


class Tensor:
    def __init__(self, name, array):
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class TritonError:
    INTERNAL, INVALID_ARG = "INTERNAL", "INVALID_ARG"
    UNAVAILABLE, CANCELLED = "UNAVAILABLE", "CANCELLED"

    def __init__(self, message, code=INTERNAL):
        self.message, self.code = message, code


class InferenceRequest:
    def __init__(self, inputs, outputs=(), timeout_us=0, cancelled=False):
        self.inputs, self._outputs = inputs, outputs
        self._timeout_us, self._cancelled = timeout_us, cancelled

    def requested_output_names(self):
        return list(self._outputs)

    def timeout(self):
        return self._timeout_us

    def is_cancelled(self):
        return self._cancelled


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.output_tensors, self.error = output_tensors, error


class MetricFamily:
    COUNTER, HISTOGRAM = "counter", "histogram"
    figures: ClassVar[dict] = {}  # "name{label}": the sum, or a histogram's observations

    def __init__(self, name, description, kind):
        self.name = name

    def Metric(self, labels, buckets=None):  # noqa: N802
        key = self.name + "".join(f"{{{value}}}" for value in labels.values())
        self.figures[key] = [] if buckets else 0
        return _Metric(self.figures, key)


class _Metric:
    def __init__(self, figures, key):
        self.figures, self.key = figures, key

    def increment(self, value):
        self.figures[self.key] += value

    def observe(self, value):
        self.figures[self.key].append(value)


class Logger:
    @staticmethod
    def log_error(message):
        import sys

        sys.stderr.write(message)


def get_input_tensor_by_name(request, name):
    return next((tensor for tensor in request.inputs if tensor.name() == name), None)
