"""Published data sets: where they are, which files they consist of, which bytes those hold.

A file is believed only if its size and SHA-256 are the ones written here. The values for
packed files were confirmed from two independent public records each (the checksum lists of
TensorFlow Datasets and of torchvision's data-set prototypes); the unpacked ones of MNIST were
computed from the verified packed files.
"""

from dataclasses import dataclass

from smidgen.errors import UnknownNameError

DRAWN_NAME = "stripes"
FOLDER_NAME = "folder"

_IMAGE_BYTES = 28 * 28
_IMAGES_HEADER_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSpec:
    """One gzipped IDX file and the only bytes it may hold.

    Args:
        name: File name, ending in `.gz`.
        size_bytes: Exact size of the packed file.
        sha256: SHA-256 of the packed file.
        unpacked_size_bytes: Exact size after unpacking; also the cap while unpacking.
        unpacked_sha256: SHA-256 after unpacking, or None if not known: then only the packed
            file can be verified, and an unpacked one is not accepted.
    """

    name: str
    size_bytes: int
    sha256: str
    unpacked_size_bytes: int
    unpacked_sha256: str | None = None

    @property
    def unpacked_name(self) -> str:
        """The file's name without `.gz`."""
        return self.name.removesuffix(".gz")

    @property
    def accepted_names(self) -> tuple[str, ...]:
        """Names under which verifiable bytes of this file may be found."""
        if self.unpacked_sha256 is None:
            return (self.name,)
        return (self.name, self.unpacked_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """A data set published as four IDX files.

    Args:
        name: Its name here, also the name of its sub-folder.
        mirrors: Addresses of folders that hold the files, best first; https, or http on
            this machine.
        train_images: Training images, (N, H, W).
        train_labels: Their labels, (N,), or (N, K) of which the first column counts.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        class_names: One name per class.
        label_sides: Dimensions of the label files: 1, or 2 for a table.
    """

    name: str
    mirrors: tuple[str, ...]
    train_images: FileSpec
    train_labels: FileSpec
    test_images: FileSpec
    test_labels: FileSpec
    class_names: tuple[str, ...]
    label_sides: int = 1

    @property
    def files(self) -> tuple[FileSpec, ...]:
        """The four files, large ones last so that a wrong mirror is noticed early."""
        return (self.test_labels, self.train_labels, self.test_images, self.train_images)


def _images(name: str, count: int, size: int, sha256: str, unpacked: str | None = None) -> FileSpec:
    return FileSpec(
        name=name,
        size_bytes=size,
        sha256=sha256,
        unpacked_size_bytes=_IMAGES_HEADER_BYTES + count * _IMAGE_BYTES,
        unpacked_sha256=unpacked,
    )


def _labels(name: str, count: int, size: int, sha256: str, unpacked: str | None = None) -> FileSpec:
    return FileSpec(
        name=name,
        size_bytes=size,
        sha256=sha256,
        unpacked_size_bytes=8 + count,
        unpacked_sha256=unpacked,
    )


def _label_table(name: str, count: int, size: int, sha256: str) -> FileSpec:
    # Eight 32-bit columns per image after a header of three words.
    return FileSpec(
        name=name, size_bytes=size, sha256=sha256, unpacked_size_bytes=12 + count * 8 * 4
    )


_DIGITS = tuple("0123456789")

MNIST = DatasetSpec(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    train_images=_images(
        "train-images-idx3-ubyte.gz",
        60_000,
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    train_labels=_labels(
        "train-labels-idx1-ubyte.gz",
        60_000,
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    test_images=_images(
        "t10k-images-idx3-ubyte.gz",
        10_000,
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    test_labels=_labels(
        "t10k-labels-idx1-ubyte.gz",
        10_000,
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    class_names=_DIGITS,
)

# H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST" (2017).
FASHION_MNIST = DatasetSpec(
    name="fashion-mnist",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    ),
    train_images=_images(
        "train-images-idx3-ubyte.gz",
        60_000,
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    train_labels=_labels(
        "train-labels-idx1-ubyte.gz",
        60_000,
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    test_images=_images(
        "t10k-images-idx3-ubyte.gz",
        10_000,
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    test_labels=_labels(
        "t10k-labels-idx1-ubyte.gz",
        10_000,
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

# T. Clanuwat et al., "Deep Learning for Classical Japanese Literature" (2018).
KMNIST = DatasetSpec(
    name="kmnist",
    mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist",),
    train_images=_images(
        "train-images-idx3-ubyte.gz",
        60_000,
        18_165_135,
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    ),
    train_labels=_labels(
        "train-labels-idx1-ubyte.gz",
        60_000,
        29_497,
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    ),
    test_images=_images(
        "t10k-images-idx3-ubyte.gz",
        10_000,
        3_041_136,
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    ),
    test_labels=_labels(
        "t10k-labels-idx1-ubyte.gz",
        10_000,
        5_120,
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)

# C. Yadav, L. Bottou, "Cold Case: The Lost MNIST Digits" (2019). The test split is the
# reconstructed 60,000, whose first 10,000 correspond to MNIST's test images.
QMNIST = DatasetSpec(
    name="qmnist",
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master",),
    train_images=_images(
        "qmnist-train-images-idx3-ubyte.gz",
        60_000,
        9_704_059,
        "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d",
    ),
    train_labels=_label_table(
        "qmnist-train-labels-idx2-int.gz",
        60_000,
        463_024,
        "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
    ),
    test_images=_images(
        "qmnist-test-images-idx3-ubyte.gz",
        60_000,
        9_742_279,
        "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375",
    ),
    test_labels=_label_table(
        "qmnist-test-labels-idx2-int.gz",
        60_000,
        526_800,
        "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06",
    ),
    class_names=_DIGITS,
    label_sides=2,
)

SPECS = {spec.name: spec for spec in (MNIST, FASHION_MNIST, KMNIST, QMNIST)}
DATASET_NAMES = (*SPECS, DRAWN_NAME, FOLDER_NAME)


def find_spec(name: str | DatasetSpec) -> DatasetSpec:
    """Return the specification of a published data set; one given as a value is itself.

    Raises:
        UnknownNameError: No published data set has this name.
    """
    if isinstance(name, DatasetSpec):
        return name
    if name not in SPECS:
        raise UnknownNameError("data set", name, DATASET_NAMES)
    return SPECS[name]


def owner_of(sha256: str) -> str | None:
    """Return which published data set a file with this hash belongs to, if any."""
    for spec in SPECS.values():
        for file in spec.files:
            if sha256 in (file.sha256, file.unpacked_sha256):
                return spec.name
    return None
