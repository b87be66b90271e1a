"""Training in several processes, on one host or more: who they are, and when they wait.

Each feeds its share of every batch. The first one alone validates and writes; all begin with the
checkpoint in the results folder, which all of them must see. One that ends takes the others with
it, so that the run is started again with --resume.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from .devices import DeviceError, check_backend

_ADDRESS, _COUNT, _RANK = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, and which of them this one is; `rank` counts from 0."""

    count: int = 1
    rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def own_work(self) -> Iterator[None]:
        """What is built, saved or asked inside belongs to this process; the others do otherwise."""
        if self.count == 1:
            yield
            return
        shared = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(shared)

    def wait(self, where: str) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(where)

    def check_agreed(self, epoch: int) -> None:
        """Raises: DeviceError: another process begins with another epoch."""
        if self.count == 1:
            return
        import numpy as np
        from jax.experimental import multihost_utils

        epochs = np.ravel(multihost_utils.process_allgather(np.array(epoch))).tolist()
        if len(set(epochs)) > 1:
            raise DeviceError(
                f"--results-dir: expected one that all processes see, got epochs {epochs} to go on"
                " from; put it on a file system that they share"
            )


ALONE = Processes()


def join_processes(wanted: int, devices: int) -> Processes:
    """Meet the run's other processes; nothing for one alone. Before Keras uses a device.

    Where they meet is told by `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`,
    or by Slurm, Open MPI or Kubernetes, as JAX reads them.

    Args:
        wanted: number of processes.
        devices: of each; 0: all that it sees.

    Raises:
        DeviceError: the backend is not JAX, or the environment does not tell of so many.
    """
    if wanted == 1:
        return ALONE
    check_backend("processes", wanted)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    try:
        jax.distributed.initialize(
            os.environ.get(_ADDRESS),
            _number(_COUNT),
            _number(_RANK),
            local_device_ids=list(range(devices)) if devices else None,
        )
    except (ValueError, RuntimeError) as error:
        raise DeviceError(
            f"processes: expected {_ADDRESS}, {_COUNT} and {_RANK} to tell of {wanted}, or a job of"
            f" Slurm, got `{' '.join(str(error).split())[:200]}`"
        ) from error
    if jax.process_count() != wanted:
        raise DeviceError(f"processes: expected {wanted}, got {jax.process_count()}")
    return Processes(wanted, jax.process_index())


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is not None and not text.isdecimal():
        raise DeviceError(f"{name}: expected an integer from 0 on, got {text!r:.60}")
    return None if text is None else int(text)
