import dataclasses
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.data import DATASET_NAMES, load_dataset
from smidgen.errors import DataError, DataMissingError, DownloadError, UnknownNameError

WAYS = (
    "Three ways to get it: download it with `smidgen data fetch tiny`; import it with "
    "`smidgen data fetch tiny --from FOLDER|ZIP|URL`; or name a folder that holds its files "
    "with `--data-dir` or `SMIDGEN_DATA`."
)


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("below", ["", "tiny"])
def test_files_are_found_packed_or_not_in_a_folder_or_its_sub_folder(
    below: str, unpacked: bool, tiny: Any, tmp_path: Path
) -> None:
    """All four arrangements give the same images and labels."""
    tiny.write(tmp_path / "mine" / below, unpacked)

    dataset = load_dataset(tiny.spec, tmp_path / "mine")

    words = np.random.Philox(key=5).random_raw(150 * 98)
    images = words.view(np.uint8).reshape(150, 1, 28, 28)
    np.testing.assert_array_equal(dataset.train.images, images[:120])
    np.testing.assert_array_equal(dataset.test.images, images[120:])
    np.testing.assert_array_equal(dataset.test.labels, np.arange(30) % 10)
    assert dataset.train.labels.dtype == np.int64
    assert (dataset.name, dataset.num_classes, dataset.image_shape) == ("tiny", 10, (1, 28, 28))


def test_given_folder_wins_over_variable_and_variable_over_cache(
    tiny: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places are tried in the order they are documented in."""
    empty = tmp_path / "empty"
    empty.mkdir()
    full = tiny.write(tmp_path / "full")
    tiny.write(cache / "data" / "tiny")

    assert len(load_dataset(tiny.spec).train) == 120
    monkeypatch.setenv("SMIDGEN_DATA", str(empty))
    with pytest.raises(DataMissingError, match="is not complete in"):
        load_dataset(tiny.spec)
    assert len(load_dataset(tiny.spec, full).train) == 120
    monkeypatch.setenv("SMIDGEN_DATA", str(full))
    with pytest.raises(DataMissingError, match="is not complete in"):
        load_dataset(tiny.spec, empty)


def test_a_chosen_folder_that_lacks_files_never_leads_to_the_network(
    tiny: Any, bad_server: Any, tmp_path: Path
) -> None:
    """An error says all three ways to get the data, and no request is sent."""
    folder = tiny.write(tmp_path / "mine")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "train-images-idx3-ubyte.gz").unlink()

    with pytest.raises(DataMissingError) as caught:
        load_dataset(tiny.at(bad_server.at("good")), folder)

    assert str(caught.value) == (
        f"`tiny` is not complete in `{folder}`: `t10k-images-idx3-ubyte.gz` is missing "
        f"(and 1 more). {WAYS}"
    )
    assert bad_server.requests == []


@pytest.mark.parametrize(
    ("make", "state"),
    [(lambda path: None, "does not exist"), (Path.touch, "is a file, not a folder")],
)
def test_a_chosen_folder_that_is_none_is_said(
    make: Callable[[Path], None], state: str, tiny: Any, tmp_path: Path
) -> None:
    """Absent, or a file where a folder should be."""
    path = tmp_path / "mine"
    make(path)

    with pytest.raises(DataMissingError) as caught:
        load_dataset(tiny.spec, path)

    assert str(caught.value) == f"`tiny` is not in `{path}`, which {state}. {WAYS}"


def test_no_file_and_no_network_is_a_download_error_with_the_three_ways(tiny: Any) -> None:
    """Callers can tell it from a wrong folder by its type."""
    with pytest.raises(DownloadError, match="Three ways to get it") as caught:
        load_dataset(tiny.at("http://127.0.0.1:1"))

    assert not isinstance(caught.value, DataMissingError)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c[:-5], "is cut short: it has {less:,} bytes, not {right:,}. Fetch it again."),
        (
            lambda c: c + b"x" * 5,
            "is too long: it has {more:,} bytes, not {right:,}. Fetch it again.",
        ),
        (
            lambda c: c[:-1] + bytes((c[-1] ^ 1,)),
            "has the wrong SHA-256 {found}..., not {pinned}.... "
            "It is damaged or another file. Fetch it again.",
        ),
    ],
)
def test_a_file_with_other_bytes_is_refused(
    change: Callable[[bytes], bytes], text: str, tiny: Any, tmp_path: Path
) -> None:
    """Cut short, too long, or one bit changed; the folder's own checksum list is not asked."""
    folder = tiny.write(tmp_path / "mine")
    path = folder / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    changed = change(content)
    path.write_bytes(changed)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(changed).hexdigest()}  {path.name}\n")

    with pytest.raises(DataError) as caught:
        load_dataset(tiny.spec, folder)

    size = len(content)
    expected = text.format(
        less=size - 5,
        more=size + 5,
        right=size,
        found=hashlib.sha256(changed).hexdigest()[:12],
        pinned=tiny.spec.train_images.sha256[:12],
    )
    assert str(caught.value) == f"`{path}` {expected}"


def test_a_folder_called_as_the_file_is_said(tiny: Any, tmp_path: Path) -> None:
    """A folder in a file's place is no file."""
    folder = tiny.write(tmp_path / "mine")
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    path.mkdir()

    with pytest.raises(DataError, match=r"is not a file\. Remove it and fetch the data again\."):
        load_dataset(tiny.spec, folder)


def images(idx: Any, count: int, side: int = 28) -> bytes:
    """Return an IDX file of black images."""
    return idx(np.zeros((count, side, side), np.uint8))


@pytest.mark.parametrize(
    ("role", "content", "text"),
    [
        (
            "train_labels",
            lambda idx: idx(np.zeros(119, np.uint8)),
            "`{0}/train-images-idx3-ubyte.gz` has 120 images but "
            "`train-labels-idx1-ubyte.gz` 119 labels; the counts must be equal.",
        ),
        (
            "test_labels",
            lambda idx: idx(np.full(30, 10, np.uint8)),
            "Label 10 at position 0 of `{0}/t10k-labels-idx1-ubyte.gz` is out of range; "
            "10 classes have labels 0 to 9.",
        ),
        (
            "test_images",
            lambda idx: images(idx, 30, 27),
            "The training images of `tiny` are 1x28x28 but its test images 1x27x27; "
            "both must have one shape.",
        ),
        (
            "train_images",
            lambda idx: idx(np.zeros(120, np.uint8)),
            "`{0}/train-images-idx3-ubyte.gz` has 1 dimensions, not 3. "
            "Images and labels may have been swapped.",
        ),
        (
            "train_images",
            lambda idx: b"\0\0\x09\x03" + images(idx, 120)[4:],
            "`{0}/train-images-idx3-ubyte.gz` begins with 0x00000903, which is not the magic "
            "number of an IDX file (0x00000803 is expected). It is some other kind of file.",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_described(
    role: str,
    content: Callable[[Any], bytes],
    text: str,
    publish: Any,
    idx: Any,
    contents: Any,
    tmp_path: Path,
) -> None:
    """Even a pinned file is checked: counts, ranges, shapes and magic numbers."""
    published = publish({**contents, role: content(idx)})
    folder = published.write(tmp_path / "mine")

    with pytest.raises(DataError) as caught:
        load_dataset(published.spec, folder)

    assert str(caught.value) == text.format(folder)


def test_a_pinned_gzip_bomb_is_stopped_at_the_pinned_size(
    publish: Any, contents: Any, tmp_path: Path
) -> None:
    """The unpacked size is a cap even where the packed hash is right."""
    import dataclasses

    published = publish(contents)
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    file = dataclasses.replace(
        published.spec.train_images,
        size_bytes=len(bomb),
        sha256=hashlib.sha256(bomb).hexdigest(),
    )
    folder = published.write(tmp_path / "mine")
    (folder / file.name).write_bytes(bomb)

    with pytest.raises(DataError, match=r"unpacks to more than the 94,096 bytes it should hold"):
        load_dataset(dataclasses.replace(published.spec, train_images=file), folder)


def test_label_tables_give_their_first_column(
    publish: Any, idx: Any, contents: Any, tmp_path: Path
) -> None:
    """QMNIST's labels are 32-bit tables, of which the first column is the class."""

    def table(count: int) -> bytes:
        rows = np.arange(count, dtype=np.int32)[:, None] % 10
        return idx((rows + np.arange(8, dtype=np.int32) * 100_000).astype(np.int32))

    published = publish(
        {**contents, "train_labels": table(120), "test_labels": table(30)}, label_sides=2
    )

    dataset = load_dataset(published.spec, published.write(tmp_path / "mine"))

    np.testing.assert_array_equal(dataset.train.labels, np.arange(120) % 10)


def test_an_unpacked_file_without_a_pinned_hash_is_not_accepted(tiny: Any, tmp_path: Path) -> None:
    """What cannot be verified is not read, and the error says why."""
    file = dataclasses.replace(tiny.spec.train_images, unpacked_sha256=None)
    spec = dataclasses.replace(tiny.spec, train_images=file)
    folder = tiny.write(tmp_path / "mine", unpacked=True)

    with pytest.raises(DataMissingError) as caught:
        load_dataset(spec, folder)

    assert str(caught.value) == (
        f"`tiny` is not complete in `{folder}`: `train-images-idx3-ubyte.gz` "
        f"(unpacked it cannot be verified) is missing. {WAYS}"
    )


def test_a_wrong_name_suggests_the_nearest() -> None:
    """Typing errors are answered with the name that was meant."""
    with pytest.raises(UnknownNameError) as caught:
        load_dataset("fasion-mnist")

    assert (
        str(caught.value) == "No data set is called `fasion-mnist`. Did you mean `fashion-mnist`?"
    )


def test_folder_without_a_folder_says_how_to_name_one() -> None:
    """`folder` alone is not enough."""
    with pytest.raises(DataMissingError) as caught:
        load_dataset("folder")

    assert str(caught.value) == (
        "`folder` needs to know which. Name one with a sub-folder of images per class "
        "by `--data-dir` or `SMIDGEN_DATA`."
    )


def test_stripes_needs_no_file_even_if_a_folder_is_named(tmp_path: Path) -> None:
    """A drawn data set ignores folders."""
    assert load_dataset("stripes", tmp_path / "nothing").name == "stripes"
    assert set(DATASET_NAMES) == {"mnist", "fashion-mnist", "kmnist", "qmnist", "stripes", "folder"}
