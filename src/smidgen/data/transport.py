"""An address in, an HTTP response whose every byte is under a pace out.

`urllib` bounds only single reads; here the whole exchange is bounded, in time and in bytes,
from the first byte of the headers, and no redirect leads away from https.
"""

import http.client
import io
import ipaddress
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024
_MAX_REDIRECTS = 5
_USER_AGENT = "smidgen"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchLimits:
    """How long a mirror may take before it is given up for the next.

    Args:
        connect_seconds: To accept a connection.
        read_seconds: Between two pieces of data.
        total_seconds: For one file from one mirror.
        rate_window_seconds: How often the speed is looked at.
        min_bytes_per_second: Slowest speed over one such window.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 20.0
    total_seconds: float = 1800.0
    rate_window_seconds: float = 20.0
    min_bytes_per_second: float = 10_000.0


class MirrorError(Exception):
    """A mirror that is given up; its text completes "HOST ...". Never leaves this package."""


def check_address(url: str) -> None:
    """Refuse every address but https, and http on this very machine.

    Raises:
        MirrorError: Another scheme, no host, or an address that cannot be read.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise MirrorError(f"has an address that makes no sense ({error})") from None
    if not host:
        raise MirrorError("has an address without a host")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise MirrorError(f"would be read over `{parts.scheme}`, which is not safe; use https")


class Pace:
    """Counts what arrives and says how long to wait for more."""

    def __init__(self, limits: FetchLimits, max_bytes: int) -> None:
        self.limits = limits
        self.is_connected = False
        self._bytes_left = max_bytes
        self._end = time.monotonic() + limits.total_seconds
        self._open_window()

    def patience_seconds(self) -> float:
        """Return how long the next piece of data may take."""
        return min(self.limits.read_seconds, max(self._end - time.monotonic(), 1e-3))

    def is_over(self) -> bool:
        """Return whether the time for the whole file is used up."""
        return time.monotonic() >= self._end

    def add(self, num_bytes: int) -> None:
        """Count a piece of data; raise MirrorError if there was too much or too little."""
        self._bytes_left -= num_bytes
        self._window_bytes += num_bytes
        if self._bytes_left < 0:
            raise MirrorError("does not stop sending")
        if self.is_over():
            raise MirrorError(f"took longer than {self.limits.total_seconds:g} s")
        elapsed = time.monotonic() - self._window_start
        if elapsed >= self.limits.rate_window_seconds:
            if self._window_bytes < elapsed * self.limits.min_bytes_per_second:
                rate = self.limits.min_bytes_per_second
                raise MirrorError(f"is slower than {rate:,.0f} bytes a second")
            self._open_window()

    def _open_window(self) -> None:
        self._window_start = time.monotonic()
        self._window_bytes = 0


def open_address(url: str, start: int, pace: Pace) -> http.client.HTTPResponse:
    """Send a request for a file and return the response, its body still unread.

    Args:
        url: An address that `check_address` accepts.
        start: Position in the file to begin at; the server may ignore it.
        pace: Bounds for everything that is read.

    Raises:
        MirrorError: Too slow, too much, or a redirect to an unsafe address.
        OSError: The network's complaint; `urllib.error.HTTPError` for a status above 299.
    """
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    handlers: list[urllib.request.BaseHandler] = [
        _PacedHttp(pace),
        _PacedHttps(pace),
        SafeRedirects(),
    ]
    if _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers=headers)
    return opener.open(request, timeout=pace.limits.connect_seconds)


class _PacedReader(io.RawIOBase):
    """A socket's data under a pace, so that dripping headers are as bounded as bodies."""

    def __init__(self, connection: socket.socket, pace: Pace) -> None:
        super().__init__()
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._pace = pace
        pace.is_connected = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._connection.settimeout(self._pace.patience_seconds())
        count = self._raw.readinto(buffer)
        self._pace.add(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedSocket:
    """What `http.client` needs of a socket to read a response from it."""

    def __init__(self, connection: socket.socket, pace: Pace) -> None:
        self._connection = connection
        self._pace = pace

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_PacedReader(self._connection, self._pace), CHUNK_BYTES)


def _paced(connection: http.client.HTTPConnection, pace: Pace) -> http.client.HTTPConnection:
    def response(sock: socket.socket, *args: Any, **options: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(_PacedSocket(sock, pace), *args, **options)  # type: ignore[arg-type]

    connection.response_class = response  # type: ignore[assignment]
    return connection


class _PacedHttp(urllib.request.HTTPHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req)

    def _connect(self, host: str, /, **options: Any) -> http.client.HTTPConnection:
        return _paced(http.client.HTTPConnection(host, **options), self._pace)


class _PacedHttps(urllib.request.HTTPSHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req, context=ssl.create_default_context())

    def _connect(self, host: str, /, **options: Any) -> http.client.HTTPConnection:
        return _paced(http.client.HTTPSConnection(host, **options), self._pace)


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most five redirects, none of them to an address that is less safe."""

    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request to follow with.

        Raises:
            MirrorError: The new address is not https, and not http from this machine to itself.
        """
        try:
            check_address(newurl)
            was_https = urlsplit(req.full_url).scheme == "https"
            if was_https and urlsplit(newurl).scheme != "https":
                raise MirrorError("would be read over `http`, which is not safe; use https")
        except MirrorError as error:
            raise MirrorError(f"redirects to an address that {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
