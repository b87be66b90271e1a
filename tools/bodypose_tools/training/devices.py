"""Training on several devices: each has a share of every batch, and all have the weights."""

from __future__ import annotations

import keras

from pose_runtime.errors import PoseError


class DeviceError(PoseError):
    """The spec asks for devices that are not there or that the backend cannot use."""


def check_backend(key: str, wanted: int) -> None:
    """Raises: DeviceError: the spec's `key` asks for several, and the backend is not JAX."""
    if keras.backend.backend() != "jax":
        raise DeviceError(
            f"{key}: expected 1 with Keras' {keras.backend.backend()} backend, got {wanted};"
            " set KERAS_BACKEND=jax"
        )


def share_batches(wanted: int, batch_size: int, processes: int = 1) -> int:
    """Share the batches of models that are built from now on among `wanted` devices; 0: all.

    Of several processes, each has so many.

    Losses, batch normalisation and gradients are those of the whole batch, as on one device.

    Returns:
        The number of devices.

    Raises:
        DeviceError: not so many devices, a batch that cannot be shared evenly, or a backend
            other than JAX.
    """
    if wanted == processes == 1:
        return 1
    check_backend("devices", wanted)
    found = keras.distribution.list_devices()
    count = processes * wanted or len(found)
    if count > len(found):
        raise DeviceError(f"devices: expected at most {len(found)}, as JAX found, got {wanted}")
    if batch_size % count:
        raise DeviceError(
            f"batch_size: expected a multiple of {count} devices, got {batch_size}; it is the size"
            " of the batch that all devices share"
        )
    if count > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=found[:count], auto_shard_dataset=False)
        )
    return count
