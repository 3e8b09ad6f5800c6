"""An address in, a partial file brought to full size out; all a server can do is bounded.

A mirror is not trusted with time (connecting, silence, slowness, the whole), with size (every
byte received counts, headers and redirects too) or with the protocol (https, or http on this
machine). Whether the bytes are the right ones is the caller's to check.
"""

import contextlib
import http.client
import re
import ssl
import urllib.error
from collections.abc import Callable
from pathlib import Path

from smidgen.data.transport import (
    CHUNK_BYTES,
    FetchLimits,
    MirrorError,
    Pace,
    check_address,
    open_address,
)
from smidgen.errors import StorageError
from smidgen.files import storage_errors

_OVERHEAD_BYTES = 256 * 1024  # headers, chunk lengths and the bodies of redirects


def download(
    url: str,
    partial: Path,
    size_bytes: int,
    limits: FetchLimits,
    on_bytes: Callable[[int], None],
) -> None:
    """Bring a partial file to its full size, continuing from what it already holds.

    Args:
        url: Address of the file.
        partial: Where the bytes go; made if missing. What has arrived stays there on failure,
            unless the server says that it cannot be continued.
        size_bytes: Exact size of the whole file.
        limits: When to give up.
        on_bytes: Told how many bytes the partial file holds, after each piece.

    Raises:
        MirrorError: The server is dead, slow, silent, redirects to http, answers with an
            error, or offers another number of bytes.
        StorageError: The partial file cannot be written; it is removed to free its space.
    """
    check_address(url)
    start = partial.stat().st_size if partial.exists() else 0
    pace = Pace(limits, max_bytes=size_bytes + _OVERHEAD_BYTES)
    try:
        with open_address(url, start, pace) as response:
            have = _agreed_start(response, start, size_bytes)
            _receive(response, partial, have, size_bytes, on_bytes)
    except StorageError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink(missing_ok=True)
        raise MirrorError(f"answered {error.code}") from None
    except OSError as error:
        raise MirrorError(_network_reason(error, pace)) from None
    except (http.client.HTTPException, ValueError) as error:
        raise MirrorError(f"does not speak proper HTTP ({type(error).__name__})") from None


def _receive(
    response: http.client.HTTPResponse,
    partial: Path,
    have: int,
    size_bytes: int,
    on_bytes: Callable[[int], None],
) -> None:
    while have < size_bytes:
        chunk = response.read1(min(CHUNK_BYTES, size_bytes - have))
        if not chunk:
            raise MirrorError(f"stopped after {have:,} of {size_bytes:,} bytes")
        _store(partial, chunk, append=have > 0)
        have += len(chunk)
        on_bytes(have)


def _agreed_start(response: http.client.HTTPResponse, asked: int, size_bytes: int) -> int:
    """Return the position in the file at which the response's body begins."""
    start = 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if asked == 0 or not part or int(part[1]) != asked:
            raise MirrorError("sent another part of the file than was asked for")
        start = asked
    elif response.status != http.HTTPStatus.OK:
        raise MirrorError(f"answered {response.status}")
    if response.length is not None and response.length != size_bytes - start:
        raise MirrorError(f"offers {start + response.length:,} bytes, not {size_bytes:,}")
    return start


def _store(partial: Path, chunk: bytes, append: bool) -> None:
    # Opened for each piece, so that a killed process leaves everything it had received.
    try:
        with storage_errors(partial), open(partial, "ab" if append else "wb") as file:
            file.write(chunk)
    except StorageError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _network_reason(error: OSError, pace: Pace) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    limits = pace.limits
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has no valid certificate ({cause.verify_message})"
    if not pace.is_connected:
        if isinstance(cause, TimeoutError):
            return f"cannot be reached within {limits.connect_seconds:g} s"
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return f"cannot be reached ({text})"
    if isinstance(cause, TimeoutError):
        if pace.is_over():
            return f"took longer than {limits.total_seconds:g} s"
        return f"was silent for {limits.read_seconds:g} s"
    return f"broke off ({getattr(cause, 'strerror', None) or cause})"
