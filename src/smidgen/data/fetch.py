"""A data set's name in, its verified files in the user's cache out; from mirrors or by import.

Nothing is believed that does not have the pinned size and SHA-256, and nothing stands under
its final name before it has been verified. A mirror is not trusted with time (connecting,
silence, slowness, the whole), with size, or with the protocol: https, or http on this machine.
"""

import contextlib
import http.client
import ipaddress
import os
import queue
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

from smidgen.data.dataset import Progress
from smidgen.data.specs import DRAWN_NAME, FOLDER_NAME, DatasetSpec, FileSpec, find_spec
from smidgen.data.verified import (
    MIRROR_VARIABLE,
    dataset_folder,
    locate,
    locate_all,
    read_verified,
    verify,
    ways_to_get,
)
from smidgen.errors import DataError, DataMissingError, DownloadError, StorageError
from smidgen.files import locked, storage_errors, write_atomically

_CHUNK_BYTES = 64 * 1024
_MAX_REDIRECTS = 5
_MAX_ZIP_BYTES = 1 << 30  # the list of entries is read whole, so a file of entries is bounded


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchLimits:
    """How long a mirror may take before it is given up for the next.

    Args:
        read_seconds: To answer, and between two pieces of data.
        total_seconds: For one file from one mirror.
        rate_window_seconds: How often the speed is looked at.
        min_bytes_per_second: Slowest speed over one such window.
    """

    read_seconds: float = 20.0
    total_seconds: float = 1800.0
    rate_window_seconds: float = 20.0
    min_bytes_per_second: float = 10_000.0


class _MirrorError(Exception):
    """A mirror that is given up; its text completes "HOST ..."."""


def fetch_dataset(
    name: str | DatasetSpec,
    *,
    source: str | Path | None = None,
    cache_dir: Path | None = None,
    limits: FetchLimits | None = None,
    progress: Progress | None = None,
) -> Path:
    """Put a published data set's files into the cache unless they are there already.

    Processes that fetch the same data set wait for each other, and a download that was cut
    off continues where it stopped.

    Args:
        name: Name of a published data set, or a specification.
        source: Where to take it from: a folder, a zip file, or the address of a folder on a
            server. By default the mirrors: first `SMIDGEN_MIRROR` (an address below which
            each data set has a folder called by its name), then the known ones.
        cache_dir: Cache folder; by default `SMIDGEN_CACHE` or the user's.
        limits: How long mirrors may take.
        progress: Told (file name, bytes so far, bytes in all) while downloading.

    Returns:
        The folder in the cache that now holds the four files.

    Raises:
        UnknownNameError: No data set is called so.
        DownloadError: No mirror gave the right bytes; says what each did.
        DataMissingError: The folder or zip file lacks a file.
        DataError: A file in the folder or zip file holds other bytes.
        StorageError: The cache cannot be written.
    """
    if name in (DRAWN_NAME, FOLDER_NAME):
        raise DataError(f"`{name}` needs no fetching. Use it directly.")
    spec = find_spec(name)
    folder = dataset_folder(spec, cache_dir)
    with locked(folder / ".lock"):
        wanted = [file for file in spec.files if not _is_ready(spec, file, folder)]
        if not wanted:
            return folder
        if source is None or (isinstance(source, str) and "://" in source):
            mirrors = _mirrors(spec) if source is None else [str(source)]
            _download_all(spec, wanted, folder, mirrors, limits or FetchLimits(), progress)
        else:
            _import_all(spec, wanted, folder, Path(source).expanduser())
    return folder


def _is_ready(spec: DatasetSpec, file: FileSpec, folder: Path) -> bool:
    path = locate(spec, file, folder)
    if path is None:
        return False
    try:
        read_verified(path, file)
    except DataError:
        return False
    return True


def _import_all(spec: DatasetSpec, wanted: Sequence[FileSpec], folder: Path, source: Path) -> None:
    if source.is_file():
        contents = read_archive(spec, wanted, source)
    elif source.exists():
        places = locate_all(spec, source)
        contents = {places[f].name: read_verified(places[f], f) for f in wanted}
    else:
        raise DataMissingError(
            f"`{source}` does not exist. Give a folder or zip file that holds "
            f"`{spec.train_images.name}` and the other files of `{spec.name}`."
        )
    for file_name, content in contents.items():  # all verified before the first is written
        write_atomically(folder / file_name, content)


def read_archive(spec: DatasetSpec, wanted: Sequence[FileSpec], path: Path) -> dict[str, bytes]:
    """Read and verify files of a data set from a zip file, in whatever folder inside it.

    Only entries whose last name is a known one are opened, at most the pinned number of bytes
    is unpacked, and an entry's path is never used as a path.

    Args:
        spec: The data set.
        wanted: Which of its files.
        path: The zip file, at most 1 GiB.

    Returns:
        Verified content for each wanted file, under the name by which it was found: with
        `.gz` if packed, without if not.

    Raises:
        DataMissingError: A wanted file is not in it.
        DataError: Not an intact zip file, too large, encrypted, or with other bytes.
    """
    if path.stat().st_size > _MAX_ZIP_BYTES:
        raise DataError(f"`{path}` is larger than 1 GiB. Unpack it and give the folder instead.")
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_read_entry(archive, spec, file, path) for file in wanted)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # `zipfile` says RuntimeError for an encrypted entry.
        raise DataError(f"`{path}` is not a zip file that can be read ({error}).") from error
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def _read_entry(
    archive: zipfile.ZipFile, spec: DatasetSpec, file: FileSpec, path: Path
) -> tuple[str, bytes]:
    for name in file.accepted_names:
        size = file.size_bytes if name == file.name else file.unpacked_size_bytes
        entries = [e for e in archive.infolist() if PurePosixPath(e.filename).name == name]
        # of the right size first, then from the data set's own folder
        entries.sort(
            key=lambda e: (e.file_size != size, spec.name not in PurePosixPath(e.filename).parts)
        )
        if entries and not entries[0].is_dir():
            with archive.open(entries[0]) as stream:
                content = stream.read(size + 1)
            verify(content, file, f"{path}/{entries[0].filename}")
            return name, content
    raise DataMissingError(
        f"`{path}` has no `{file.name}`, so it does not hold `{spec.name}`. "
        "Give a folder or zip file with all four files."
    )


def _download_all(
    spec: DatasetSpec,
    wanted: Sequence[FileSpec],
    folder: Path,
    mirrors: list[str],
    limits: FetchLimits,
    progress: Progress | None,
) -> None:
    for file in wanted:
        failures: list[str] = []
        for mirror in tuple(mirrors):
            try:
                content = _download_verified(mirror, file, folder, limits, progress)
            except _MirrorError as error:
                host = urlsplit(mirror).netloc.rpartition("@")[2]  # never show a password
                failures.append(f"`{host or mirror}` {error}")
                mirrors.append(mirrors.pop(0))  # the next file begins with one that works
                continue
            write_atomically(folder / file.name, content)
            _partial(folder, file).unlink(missing_ok=True)
            break
        else:
            raise DownloadError(
                f"`{file.name}` of `{spec.name}` could not be downloaded: {'; '.join(failures)}. "
                f"{ways_to_get(spec)}"
            )


def _download_verified(
    mirror: str, file: FileSpec, folder: Path, limits: FetchLimits, progress: Progress | None
) -> bytes:
    """Return the file's bytes, begun anew once if an earlier part turns out to be wrong."""
    partial = _partial(folder, file)
    url = f"{mirror.rstrip('/')}/{file.name}"
    told = progress or (lambda *_: None)
    while True:
        start = partial.stat().st_size if partial.exists() else 0
        try:
            for have in _continue(url, partial, start, file.size_bytes, limits):
                told(file.name, have, file.size_bytes)
            content = partial.read_bytes()
            verify(content, file, file.name)
            return content
        except DataError:
            partial.unlink(missing_ok=True)
            if not start:
                raise _MirrorError(
                    "sent wrong bytes (their SHA-256 is not the pinned one)"
                ) from None
        except _RangeRefusedError:
            partial.unlink(missing_ok=True)


class _RangeRefusedError(Exception):
    """A server that has no such part of the file: what is there cannot be its beginning."""


_Pieces = queue.Queue[tuple[int, bytes] | Exception]


def _continue(
    url: str, partial: Path, have: int, size_bytes: int, limits: FetchLimits
) -> Iterator[int]:
    """Bring a partial file to its full size, yielding the bytes it holds after each piece.

    A thread of its own asks and reads, and this one waits for what comes with one clock, so
    that no server can hold it up: not by a slow header, a redirect or a dripping body.
    """
    if have >= size_bytes:
        return
    check_address(url)
    pieces, is_over = _Pieces(maxsize=8), threading.Event()
    asked = (url, have, size_bytes, limits.read_seconds)
    threading.Thread(target=_receive, args=(pieces, is_over, *asked), daemon=True).start()
    try:
        for position, piece in _paced(pieces, limits):
            if not piece:
                raise _MirrorError(f"stopped after {have:,} of {size_bytes:,} bytes")
            _store(partial, piece[: size_bytes - position], append=position > 0)
            have = min(position + len(piece), size_bytes)
            yield have
            if have == size_bytes:
                return
    finally:
        is_over.set()


def _paced(pieces: _Pieces, limits: FetchLimits) -> Iterator[tuple[int, bytes]]:
    """Yield what comes as long as it comes fast enough."""
    window_start, window_bytes = time.monotonic(), 0
    end = window_start + limits.total_seconds
    while True:
        left = max(end - time.monotonic(), 0.0)
        try:
            piece = pieces.get(timeout=min(limits.read_seconds, left))
        except queue.Empty:
            if left < limits.read_seconds:
                raise _MirrorError(f"took longer than {limits.total_seconds:g} s") from None
            raise _MirrorError(f"was silent for {limits.read_seconds:g} s") from None
        if isinstance(piece, Exception):
            raise piece
        yield piece
        window_bytes += len(piece[1])
        elapsed = time.monotonic() - window_start
        if elapsed >= limits.rate_window_seconds:
            if window_bytes < elapsed * limits.min_bytes_per_second:
                rate = limits.min_bytes_per_second
                raise _MirrorError(f"is slower than {rate:,.0f} bytes a second")
            window_start, window_bytes = time.monotonic(), 0


def _receive(
    pieces: _Pieces,
    is_over: threading.Event,
    url: str,
    have: int,
    size_bytes: int,
    read_seconds: float,
) -> None:
    """Put pieces with their positions in the file, an empty one last, or what went wrong."""

    def put(piece: tuple[int, bytes] | Exception) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                return pieces.put(piece, timeout=1.0)
        return None

    try:
        with _open(url, have, read_seconds) as response:
            position = _agreed_start(response, have, size_bytes)
            while not is_over.is_set() and (piece := response.read1(_CHUNK_BYTES)):
                put((position, piece))
                position += len(piece)
            put((position, b""))
    except (_MirrorError, _RangeRefusedError) as error:
        put(error)
    except OSError as error:
        put(_MirrorError(_network_reason(error, read_seconds)))
    except Exception as error:  # http.client raises nearly anything for what is not HTTP
        put(_MirrorError(f"does not speak proper HTTP ({type(error).__name__})"))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `_open`: this one's parent reads their bodies, however long."""

    def redirect_request(
        self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> None:
        return None


def _open(url: str, start: int, read_seconds: float) -> http.client.HTTPResponse:
    """Ask for a file from a position on, following at most five redirects, none less safe."""
    headers = {"User-Agent": "smidgen", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    for _ in range(_MAX_REDIRECTS + 1):
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if _is_loopback(urlsplit(url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(url, headers=headers)
        try:
            return urllib.request.build_opener(*handlers).open(request, timeout=read_seconds)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
                raise _RangeRefusedError from None
            target = error.headers.get("Location")
            if error.code not in (301, 302, 303, 307, 308) or not target:
                raise _MirrorError(f"answered {error.code}") from None
        url = checked_redirect(url, target)
    raise _MirrorError(f"redirects more than {_MAX_REDIRECTS} times")


def check_address(url: str) -> None:
    """Refuse every address but https, and http on this very machine.

    Raises:
        _MirrorError: Another scheme, no host, or an address that cannot be read.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _MirrorError(f"has an address that makes no sense ({error})") from None
    if not host:
        raise _MirrorError("has an address without a host")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise _MirrorError(f"would be read over `{parts.scheme}`, which is not safe; use https")


def checked_redirect(url: str, target: str) -> str:
    """Return the address that a redirect leads to.

    Raises:
        _MirrorError: It is not https, and not http from this machine to itself.
    """
    try:
        address = urljoin(url, target)
        check_address(address)
        if urlsplit(url).scheme == "https" and urlsplit(address).scheme != "https":
            raise _MirrorError("would be read over `http`, which is not safe; use https")
    except (_MirrorError, ValueError) as error:
        raise _MirrorError(f"redirects to an address that {error}") from None
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _agreed_start(response: http.client.HTTPResponse, asked: int, size_bytes: int) -> int:
    """Return the position in the file at which the response's body begins."""
    start = 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if asked == 0 or not part or int(part[1]) != asked:
            raise _MirrorError("sent another part of the file than was asked for")
        start = asked
    elif response.status != http.HTTPStatus.OK:
        raise _MirrorError(f"answered {response.status}")
    if response.length is not None and response.length != size_bytes - start:
        raise _MirrorError(f"offers {start + response.length:,} bytes, not {size_bytes:,}")
    return start


def _network_reason(error: OSError, read_seconds: float) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has no valid certificate ({cause.verify_message})"
    if isinstance(cause, TimeoutError):
        return f"was silent for {read_seconds:g} s"
    state = "cannot be reached" if isinstance(error, urllib.error.URLError) else "broke off"
    return f"{state} ({getattr(cause, 'strerror', None) or cause})"


def _store(partial: Path, piece: bytes, append: bool) -> None:
    # Opened for each piece, so that a killed process leaves everything it had received.
    try:
        with storage_errors(partial), open(partial, "ab" if append else "wb") as file:
            file.write(piece)
    except StorageError:
        partial.unlink(missing_ok=True)  # to free its space
        raise


def _partial(folder: Path, file: FileSpec) -> Path:
    return folder / f".{file.name}.download"


def _mirrors(spec: DatasetSpec) -> list[str]:
    own = os.environ.get(MIRROR_VARIABLE)
    return [f"{own.rstrip('/')}/{spec.name}", *spec.mirrors] if own else list(spec.mirrors)
