"""The demo page's connection to the pose server: opened when needed, and again after a loss."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bodypose_client.errors import (
    ClientError,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
)
from bodypose_client.pose_client import PoseClient

_log = logging.getLogger(__name__)

# Trouble with one request; after any other error the connection is opened anew.
_PASSING = (RateLimited, RequestRejected, ServerBusy, ServerTimeout)


@dataclass(slots=True, eq=False)
class _Held:
    """One open client; closed when it is dropped and nobody uses it any more."""

    client: PoseClient
    users: int = 0
    dropped: bool = False


@dataclass(slots=True)
class ServerLink:
    """A pose server that may go away and come back. Any thread may use it.

    A restarted server may have another model, and a gRPC channel that lost its server waits longer
    and longer before it looks again: so a lost client is replaced by a new one.
    """

    open_client: Callable[[], PoseClient]
    _held: _Held | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def client(self) -> Iterator[PoseClient]:
        """An open client, for as long as the block lasts.

        Raises:
            ClientError: there is no server, or what the block raised.
        """
        held = self._take()
        try:
            yield held.client
        except _PASSING:
            raise
        except ClientError:
            self._drop(held)
            raise
        finally:
            self._give_back(held)

    def check(self) -> None:
        """Ask the server whether it is there.

        Raises:
            ClientError: it is not; the next `client()` opens a new connection.
        """
        try:
            probe = _Held(self.open_client())
        except ClientError:
            self._drop(self._held)
            raise
        with self._lock:
            spare = probe if self._held else None
            self._held = self._held or probe
        self._drop(spare)

    def close(self) -> None:
        self._drop(self._held)

    def _take(self) -> _Held:
        with self._lock:
            if self._held is None:
                self._held = _Held(self.open_client())
                _log.info("%s: a new connection", self._held.client.address)
            self._held.users += 1
            return self._held

    def _give_back(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            unused = held.dropped and not held.users
        if unused:
            held.client.close()

    def _drop(self, held: _Held | None) -> None:
        if held is None:
            return
        with self._lock:
            if held.dropped:
                return
            held.dropped = True
            if self._held is held:
                self._held = None
            unused = not held.users
        if unused:
            held.client.close()
