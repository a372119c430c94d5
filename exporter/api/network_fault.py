"""An exception of the libraries below to words of our own.

Their texts may hold the URL, and with it the access token; none of them is passed on.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from exporter.api.refusal import Failure
from exporter.api.transport import CUT_TEXT
from exporter.errors import ConnectionFailedError, InternalError, RequestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


def explain(error: Exception, *, ca_file: str | None) -> Failure:
    """Say what a library's exception means. The text of a RequestTimeoutError is left to the caller."""
    chain = list(_chain(error))
    if any(isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError | requests.Timeout) for one in chain):
        return Failure(RequestTimeoutError, "", retry=True)
    for one in chain:
        if (text := _explain_one(one)) is not None:
            return Failure(ConnectionFailedError, text, retry=True)
    if ca_file is not None and not Path(ca_file).exists():
        return Failure(ConnectionFailedError, "the file of ca_file doesn't exist", retry=True)
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
        text = f"the request failed ({type(error).__name__}); check base_url, the proxy and the network"
        return Failure(ConnectionFailedError, text, retry=True)
    return Failure(InternalError, f"{type(error).__name__} at {_origin(error)}; please report this")


def unused_proxy(base_url: str, *, proxy: str | None) -> str:
    """Return a note on a proxy that the environment names and the configuration doesn't, or an empty text."""
    parts = urlsplit(base_url)
    named = urllib.request.getproxies_environment()
    if proxy is not None or not (named.keys() & {parts.scheme, "all"}):
        return ""
    if urllib.request.proxy_bypass_environment(parts.netloc, named):  # type: ignore[attr-defined] # not in the stubs
        return ""
    name = f"{parts.scheme if parts.scheme in named else 'all'}_proxy".upper()
    return f"; {name} in the environment is not used: if the API is behind a proxy, set api.proxy"


def _explain_one(error: BaseException) -> str | None:
    """Say what one exception of a chain means, or None if it says nothing by itself."""
    text = None
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the server's certificate isn't trusted ({error.verify_message}); check base_url and ca_file"
    elif isinstance(error, ssl.SSLError):
        text = f"TLS failed ({error.reason or 'connection closed'}); check base_url, ca_file and the proxy"
    elif isinstance(error, socket.gaierror | UnicodeError):
        text = "the host name can't be looked up; check base_url, the proxy and the name server"
    elif isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        text = CUT_TEXT
    elif isinstance(error, http.client.HTTPException):
        text = "the answer isn't HTTP; check base_url and the proxy"
    elif isinstance(error, OSError) and error.errno is not None:
        text = f"the connection failed ({os.strerror(error.errno)}); check base_url, the proxy and the network"
    elif refused := re.match(r"Tunnel connection failed: ([1-5][0-9][0-9])\b", str(error)):
        text = f"the proxy refused the connection (HTTP {refused[1]}); check the proxy and its password"
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything it was made from, each once, outermost first."""
    queue, seen = [error], {id(error)}
    while queue:
        one = queue.pop(0)
        yield one
        for inner in (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                queue.append(inner)


def _origin(error: BaseException) -> str:
    """Return ``file.py:line`` of the frame that raised."""
    place, trace = "unknown", error.__traceback__
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
