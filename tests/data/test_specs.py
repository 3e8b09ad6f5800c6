import re
from urllib.parse import urlsplit

import pytest

from smidgen.data import DATASET_NAMES
from smidgen.data.specs import SPECS, DatasetSpec, find_spec, owner_of
from smidgen.errors import UnknownNameError

ALL = list(SPECS.values())


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_published_data_set_is_pinned(spec: DatasetSpec) -> None:
    """Sizes, hashes, names and addresses have the form they must have."""
    assert spec.mirrors
    assert len(spec.class_names) == len(set(spec.class_names)) == 10
    for mirror in spec.mirrors:
        assert urlsplit(mirror).scheme == "https"
        assert not mirror.endswith("/")
    for file in spec.files:
        assert file.name.endswith(".gz")
        assert 0 < file.size_bytes < file.unpacked_size_bytes
        for digest in (file.sha256, file.unpacked_sha256 or file.sha256):
            assert re.fullmatch("[0-9a-f]{64}", digest)


def test_no_two_files_share_a_hash() -> None:
    """A hash tells which data set a file belongs to."""
    files = [(spec.name, file.sha256) for spec in ALL for file in spec.files]

    assert len({digest for _, digest in files}) == len(files)
    assert [owner_of(digest) for _, digest in files] == [name for name, _ in files]
    assert owner_of("0" * 64) is None


def test_names_lead_to_specifications() -> None:
    """A specification is itself, a name is looked up, a wrong one suggests the nearest."""
    assert find_spec("mnist") is SPECS["mnist"]
    assert find_spec(SPECS["kmnist"]) is SPECS["kmnist"]
    assert set(SPECS) < set(DATASET_NAMES)
    with pytest.raises(UnknownNameError, match="Did you mean `mnist`"):
        find_spec("mnits")
