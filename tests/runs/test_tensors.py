import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.errors import RunError, StorageError
from smidgen.runs.tensors import load_tensors, save_tensors

ARRAYS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "step": np.array(12, dtype=np.int64),
    "empty": np.zeros((0, 10), dtype=np.float32),
}
METADATA = {"identity": "abc", "epochs": '[{"epoch": 1}]', "note": "21°"}


def written(folder: Path) -> Path:
    """Write the arrays and return where."""
    path = folder / "x.safetensors"
    save_tensors(path, ARRAYS, METADATA)
    return path


def test_round_trip(tmp_path: Path) -> None:
    """Names, types, shapes, bytes and metadata come back as they were."""
    tensors, metadata = load_tensors(written(tmp_path))

    assert metadata == METADATA
    assert tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert tensors[name].dtype == array.dtype
        assert tensors[name].shape == array.shape
        assert tensors[name].tobytes() == array.tobytes()


def test_same_content_gives_the_same_file(tmp_path: Path) -> None:
    """Files are comparable byte by byte, and arrays need not be contiguous."""
    first = written(tmp_path).read_bytes()
    turned = ARRAYS | {"conv1.weight": ARRAYS["conv1.weight"].transpose().copy().transpose()}

    save_tensors(tmp_path / "y.safetensors", turned, METADATA)

    assert (tmp_path / "y.safetensors").read_bytes() == first


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    """Whichever bit of header or data changes, the file is refused or holds the same content.

    Every seventh bit is tried: each of a byte's eight in turn, hundreds in all.
    """
    path = written(tmp_path)
    content = path.read_bytes()
    bits = range(0, 8 * len(content), 7)
    refused = 0

    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        refused += is_refused_or_same(path)

    assert len(bits) > 500
    assert refused > 0.99 * len(bits)


def is_refused_or_same(path: Path) -> bool:
    """Return whether a file is refused; one that is not must hold what was written."""
    try:
        tensors, metadata = load_tensors(path)
    except RunError:
        return True
    # JSON can say one thing in two ways, such as the case of an escape's digits
    assert metadata == METADATA
    found = {name: array.tobytes() for name, array in tensors.items()}
    assert found == {name: array.tobytes() for name, array in ARRAYS.items()}
    return False


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """A file that ends early, wherever, or goes on too long is refused."""
    path = written(tmp_path)
    content = path.read_bytes()

    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(RunError):
            load_tensors(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(RunError):
        load_tensors(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """A file that is not there is named."""
    path = tmp_path / "none.safetensors"

    with pytest.raises(RunError) as caught:
        load_tensors(path)

    assert str(caught.value) == f"Cannot read `{path}`: No such file or directory."


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header, and perhaps a wrong length of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def file_with(entry: Any, data: bytes = b"") -> bytes:
    """Return a file with readable metadata and one entry."""
    return file_of({"__metadata__": {"smidgen": "{}"}, "a": entry}, data)


def tensor(dtype: Any, shape: Any, *offsets: Any) -> dict[str, Any]:
    """Return a header's entry."""
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


HOSTILE = {
    "empty": b"",
    "short": b"\x01\x00",
    "huge length": file_of({}, length=2**63),
    "length beyond the file": file_of({}, length=100),
    "header above the cap": file_of(b" " * 4_000_001),
    "not JSON": file_of(b"{nonsense"),
    "not UTF-8": file_of(b'{"\xff": 1}'),
    "a list": file_of([1, 2]),
    "a number": file_of(3),
    "null": file_of(b"null"),
    "deep": file_of(b"[" * 100_000 + b"]" * 100_000),
    "deep metadata": file_of(b'{"__metadata__": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"),
    "metadata a list": file_of({"__metadata__": ["smidgen"]}),
    "metadata a number": file_of({"__metadata__": {"smidgen": 1}}),
    "metadata not JSON": file_of({"__metadata__": {"smidgen": "{"}}),
    "metadata a text": file_of({"__metadata__": {"smidgen": '"sha256"'}}),
    "no metadata": file_of({}),
    "not ours": file_of({"__metadata__": {"format": "pt"}}),
    "no digest": file_of({"__metadata__": {"smidgen": "{}"}}),
    "entry a list": file_with([1]),
    "no offsets": file_with({"dtype": "F32", "shape": [1]}),
    "unknown type": file_with(tensor("F33", [1], 0, 4), b"0123"),
    "bfloat16": file_with(tensor("BF16", [2], 0, 4), b"0123"),
    "float8": file_with(tensor("F8_E4M3", [4], 0, 4), b"0123"),
    "negative shape": file_with(tensor("F32", [-1], 0, 4), b"0123"),
    "huge shape": file_with(tensor("F32", [2**62, 2**62], 0, 4), b"0123"),
    "zero and huge shape": file_with(tensor("F32", [0, 2**63], 0, 0)),
    "shape a text": file_with(tensor("F32", "1", 0, 4), b"0123"),
    "offsets beyond": file_with(tensor("F32", [2], 0, 8), b"0123"),
    "offsets reversed": file_with(tensor("F32", [1], 4, 0), b"0123"),
    "offsets with a hole": file_with(tensor("F32", [1], 4, 8), b"01234567"),
    "big number": file_of(b'{"a": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in a file, the answer is one clear line."""
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        load_tensors(path)

    assert str(caught.value).startswith(f"`{path}` is ")
    assert "\n" not in str(caught.value)


def test_texts_are_pinned(tmp_path: Path) -> None:
    """What damage says: cut off, unreadable, changed."""
    path = written(tmp_path)
    content = path.read_bytes()
    texts = []

    for damaged in (content[:-1], content[:7], file_of(b"{nonsense"), content[:-1] + b"\x55"):
        path.write_bytes(damaged)
        with pytest.raises(RunError) as caught:
            load_tensors(path)
        texts.append(str(caught.value))

    assert texts[0].startswith(f"`{path}` is damaged: Error while deserializing")
    assert texts[0].endswith("Restore it or train again.")
    assert texts[1] == (f"`{path}` is no complete safetensors file. Restore it or train again.")
    assert texts[2] == f"`{path}` is damaged: its header is not readable."
    assert texts[3] == (
        f"`{path}` is damaged: its content does not match its SHA-256. Restore it or train again."
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the folder is no folder, nothing is written."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError) as caught:
        save_tensors(tmp_path / "file" / "x.safetensors", ARRAYS)

    assert str(caught.value) == (
        f"Cannot write `{tmp_path / 'file' / 'x.safetensors'}`: "
        "a file stands where a folder should be. Move it or choose another folder."
    )
    assert (tmp_path / "file").read_text() == "in the way"
