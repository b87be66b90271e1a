"""HTTP for asyncio, through aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator

import aiohttp

from bodypose_client.errors import ServerTimeout, ServerUnavailable, TlsFailed

from .access import Access
from .address import Address
from .connection import Connection
from .deadline import Deadline
from .http_messages import Answer, Question, http_connection


def connect_http_asyncio(address: Address, access: Access) -> Connection:
    """A connection for the running event loop; it opens as many sockets as requests in flight."""
    tls = access.tls.context(address) if address.secure else False
    session = aiohttp.ClientSession(
        f"{address.scheme}://{address.netloc}",
        connector=aiohttp.TCPConnector(limit=0, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("accept-encoding", "user-agent"),
    )

    async def ask(question: Question, deadline: Deadline) -> Answer:
        with _our_errors(address, deadline):
            async with (
                asyncio.timeout(deadline.left_s()),
                session.request(
                    question.method, question.path, data=question.body, headers=question.headers
                ) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, await response.read())

    return http_connection(address, access, ask, session.close)


@contextlib.contextmanager
def _our_errors(address: Address, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServerTimeout(str(address), deadline.timeout_s) from error
    except aiohttp.ClientConnectorCertificateError as error:
        certificate_error = error.certificate_error
        reason = getattr(certificate_error, "verify_message", "") or str(certificate_error)
        raise TlsFailed(str(address), reason) from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise TlsFailed(str(address), str(error)) from error
    except aiohttp.ClientResponseError as error:
        reason = f"an answer that is not HTTP ({type(error).__name__})"
        raise ServerUnavailable(str(address), reason) from error
    except OSError as error:  # aiohttp gives its own words with the system's number
        raise ServerUnavailable(str(address), _system_words(error)) from error
    except aiohttp.ClientError as error:
        raise ServerUnavailable(str(address), str(error)) from error


def _system_words(error: OSError) -> str:
    cause = getattr(error, "os_error", error)
    return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else str(error)
