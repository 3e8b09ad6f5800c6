"""A value as a nameless file that processes share: large arrays are mapped, never copied.

A file without a name needs no cleaning up: it is gone with the last process that holds it. And
writing it cannot wait for a reader, as a pipe does, however large it is.
"""

import mmap
import os
import pickle
import tempfile
from typing import Any, BinaryIO

_ALIGNMENT = 64
"""Bytes: what vector instructions like."""
_NUMBER_BYTES = 8


def nameless_file(what: str) -> BinaryIO:
    """Return an empty file without a name, in memory where the system has that.

    Raises:
        OSError: There is no space for it.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(f"smidgen-{what}"), "w+b")
    return tempfile.TemporaryFile()


def pack(thing: object) -> BinaryIO:
    """Write a picklable value, its arrays last and as they are; raises OSError without space."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(thing, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    file = nameless_file("parcel")
    numbers = [len(head), len(views), *(view.nbytes for view in views)]
    file.write(b"".join(number.to_bytes(_NUMBER_BYTES, "little") for number in numbers))
    file.write(head)
    for view in views:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        file.write(view)
    file.flush()
    return file


def unpack(descriptor: int) -> Any:
    """Return the value; its arrays are views of the file, and what is written to them stays here.

    Only for files that a process of our own wrote: unpickling runs what it is told.
    """
    mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
    place = 0

    def number() -> int:
        nonlocal place
        place += _NUMBER_BYTES
        return int.from_bytes(mapped[place - _NUMBER_BYTES : place], "little")

    head_bytes, count = number(), number()
    sizes = [number() for _ in range(count)]
    head = mapped[place : place + head_bytes]
    place += head_bytes
    views = []
    for size in sizes:
        place += -place % _ALIGNMENT
        views.append(mapped[place : place + size])
        place += size
    return pickle.loads(head, buffers=views)
