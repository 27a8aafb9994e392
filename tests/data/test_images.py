"""Image data sets, from small files in the real formats, through the real readers."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import tarfile
from collections import Counter
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pooch
import pytest

from data.image_files import NAMES, write_cifar, write_mnist
from esl_neuro.data import images, load_dataset
from esl_neuro.data.augment import crop_and_flip
from esl_neuro.data.downloads import Download, unpack
from esl_neuro.data.folders import optional_module
from esl_neuro.errors import BadInput, MissingDependency


def contents(*splits):
    return Counter(
        (image.tobytes(), int(label))
        for split in splits
        for image, label in zip(split.values, split.labels, strict=True)
    )


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", ""),
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", ""),
        ("fashion_mnist", "fashion-mnist"),
        ("fashion_mnist", "Fashion_MNIST"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "anything"),
    ],
)
def test_idx_files_are_found_and_read(tmp_path, name, place, compress):
    written = write_mnist(tmp_path / place, compress)
    folder = tmp_path / place if place == "anything" else tmp_path
    dataset = load_dataset(name, folder)
    assert (dataset.name, dataset.classes, dataset.shape, dataset.features) == (name, 10, (1, 28, 28), 784)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (90, 10, 20)
    assert np.array_equal(dataset.test.values[:, 0], written["test"])
    assert dataset.test.labels.tolist() == [number % 10 for number in range(20)]
    expected = Counter((image.tobytes(), number % 10) for number, image in enumerate(written["train"]))
    assert contents(dataset.train, dataset.validation) == expected
    assert dataset.train.values.dtype == np.uint8
    assert np.array_equal(dataset.test.batch([3, 1]), (dataset.test.values[[3, 1]] / 255).astype(np.float32))


def test_mnist_is_what_torchvision_reads(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    theirs = torchvision.datasets.FashionMNIST(str(tmp_path), train=False)
    ours = load_dataset("fashion_mnist", tmp_path).test
    assert np.array_equal(ours.values[:, 0], theirs.data.numpy())
    assert ours.labels.tolist() == theirs.targets.tolist()


def test_each_of_two_neighbours_gets_its_own_files(tmp_path):
    digits, fashion = write_mnist(tmp_path / "mnist", seed=1), write_mnist(tmp_path / "fashion-mnist", seed=2)
    for name, written in (("mnist", digits), ("fashion_mnist", fashion)):
        assert np.array_equal(load_dataset(name, tmp_path).test.values[:, 0], written["test"])


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
def test_files_of_the_twin_are_not_taken(tmp_path, place):
    write_mnist(tmp_path / place)
    for folder in (tmp_path, tmp_path / place):
        with pytest.raises(BadInput, match="data set 'mnist' is not in"):
            load_dataset("mnist", folder)


def test_folder_is_the_variable_or_data_below_the_current_one(tmp_path, monkeypatch):
    write_mnist(tmp_path / "data" / "mnist", seed=1)
    other = write_mnist(tmp_path / "elsewhere" / "mnist", seed=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESL_NEURO_DATA", raising=False)
    first = load_dataset("mnist").test.values
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path / "elsewhere"))
    second = load_dataset("mnist").test.values
    assert np.array_equal(second[:, 0], other["test"])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", "train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz), t10k-images-idx3-ubyte(.gz), t10k-lab"),
        ("fashion_mnist", "train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz), t10k-images-idx3-ubyte(.gz)"),
        ("cifar10", "data_batch_1, data_batch_2, data_batch_3, data_batch_4, data_batch_5, test_batch"),
        ("cifar100", "train, test"),
        ("n_mnist", "Train/*/*.bin, Test/*/*.bin"),
        ("dvs_cifar10", "airplane/*.aedat*, automobile/*.aedat*, bird/*.aedat*"),
        ("dvs128_gesture", "ibmGestureTrain/*/*.npy, ibmGestureTest/*/*.npy"),
        ("shd", "shd_train.h5, shd_test.h5"),
    ],
)
def test_missing_data_are_one_line_with_name_folder_and_files(tmp_path, name, expected):
    with pytest.raises(BadInput) as caught:
        load_dataset(name, tmp_path / "nowhere")
    message = str(caught.value)
    assert message.startswith(f"data set '{name}' is not in {tmp_path / 'nowhere'}: expected {expected}")
    assert "\n" not in message


def test_incomplete_data_are_missing(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="'mnist' is not in"):
        load_dataset("mnist", tmp_path)


def test_files_of_other_content_are_refused(tmp_path):
    write_mnist(tmp_path)
    images, labels = (tmp_path / name for name in NAMES["train"])
    labels_content = labels.read_bytes()
    labels.write_bytes(struct.pack(">2I", 0x801, 99) + bytes(99))
    with pytest.raises(BadInput, match=r"train-labels-idx1-ubyte: uint8 \(99,\), expected uint8 labels \(100,\)"):
        load_dataset("mnist", tmp_path)
    labels.write_bytes(struct.pack(">2I", 0x801, 100) + bytes([10] * 100))
    with pytest.raises(BadInput, match="labels are from 10 to 10, expected 0 to 9"):
        load_dataset("mnist", tmp_path)
    images.write_bytes(labels_content)
    with pytest.raises(BadInput, match="train-images-idx3-ubyte: uint8 in 1 dimensions, expected uint8 images in 3"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("inside", ["", "cifar", "itself"])
def test_cifar_is_read(tmp_path, classes, inside):
    name = f"cifar{classes}"
    folder = tmp_path / {"": "", "cifar": f"CIFAR-{classes}", "itself": ""}[inside]
    written = write_cifar(folder, classes)
    home = next(folder.glob("cifar-*"))
    dataset = load_dataset(name, home if inside == "itself" else tmp_path)
    assert (dataset.name, dataset.classes, dataset.shape) == (name, classes, (3, 32, 32))
    images, labels = written["test"]
    assert np.array_equal(dataset.test.values, images)
    assert dataset.test.labels.tolist() == labels
    images, labels = written["train"]
    expected = Counter((image.tobytes(), label) for image, label in zip(images, labels, strict=True))
    assert contents(dataset.train, dataset.validation) == expected
    assert dataset.train.values.dtype == np.uint8
    assert dataset.augment is crop_and_flip


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_what_torchvision_reads(tmp_path, monkeypatch, classes):
    torchvision = pytest.importorskip("torchvision")
    write_cifar(tmp_path, classes)
    theirs_class = getattr(torchvision.datasets, f"CIFAR{classes}")
    home = tmp_path / theirs_class.base_folder

    def md5(name):
        return hashlib.md5((home / name).read_bytes()).hexdigest()

    for files in ("train_list", "test_list"):
        monkeypatch.setattr(theirs_class, files, [[name, md5(name)] for name, _ in getattr(theirs_class, files)])
    monkeypatch.setattr(theirs_class, "meta", theirs_class.meta | {"md5": md5(theirs_class.meta["filename"])})
    theirs = theirs_class(str(tmp_path), train=False)
    ours = load_dataset(f"cifar{classes}", tmp_path).test
    assert np.array_equal(ours.values.transpose(0, 2, 3, 1), theirs.data)
    assert ours.labels.tolist() == theirs.targets


@pytest.mark.parametrize(
    ("classes", "mean", "std"),
    [
        (10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        (100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    ],
)
def test_cifar_is_normalised_as_in_the_papers(tmp_path, classes, mean, std):
    write_cifar(tmp_path, classes)
    dataset = load_dataset(f"cifar{classes}", tmp_path)
    values = dataset.test.batch()
    for channel in range(3):
        expected = (values[:, channel].astype(np.float64) - mean[channel]) / std[channel]
        # float32 holds 24 bits, and the difference of two numbers of 1 is divided by 0.2: at most 5 roundings of 2^-24.
        assert np.allclose(dataset.normalise(values)[:, channel], expected, rtol=0, atol=1e-6)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle_that_wants_to_run_something_is_refused(tmp_path, monkeypatch, protocol):
    write_cifar(tmp_path, 10)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Trap(), "labels": []}, protocol=protocol))
    with pytest.raises(BadInput, match=r"data_batch_3: not a batch of CIFAR: .*mkdir, which no CIFAR batch needs"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "trapped").exists()
    pickle.loads(path.read_bytes())  # the trap is real
    assert (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "not a batch of CIFAR: KeyError"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, r"uint8 \(2, 3071\)"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, r"float32 \(2, 3072\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, r"with int64 labels \(1,\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, "labels are from 0 to 10, expected 0 to 9"),
        ([1, 2], "not a batch of CIFAR: TypeError"),
    ],
)
def test_batch_of_other_content_is_refused(tmp_path, batch, message):
    write_cifar(tmp_path, 10)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(BadInput, match=message):
        load_dataset("cifar10", tmp_path)


def test_truncated_batch_is_refused(tmp_path):
    write_cifar(tmp_path, 10)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match="data_batch_5: not a batch of CIFAR"):
        load_dataset("cifar10", tmp_path)


def test_batch_as_python_2_wrote_it_is_read(tmp_path):
    """The original files hold byte strings of Python 2, and arrays whose content is one."""
    write_cifar(tmp_path, 10)
    pixels = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        b"(I1\n(I1\nI3072\ntcnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\n"
        b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )
    batch = b"\x80\x02}(U\x04data" + array + b"U\x06labels(lI7\nau."
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(batch)
    test = load_dataset("cifar10", tmp_path).test
    assert test.values.tobytes() == pixels
    assert test.labels.tolist() == [7]


@pytest.fixture
def offered(tmp_path):
    """A folder whose files a server offers, and their address."""
    pooch.get_logger().setLevel("WARNING")  # it writes to the standard error that it found when it was first used
    folder = tmp_path / "offered"
    folder.mkdir()
    serve = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("localhost", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://localhost:{server.server_port}/"
        server.shutdown()


def offer(monkeypatch, layout, folder, address):
    """Let a data set be downloaded from the server."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(images, layout, replace(getattr(images, layout), fetch=Download(address, files, "new")))


def test_download_is_for_the_asking_and_goes_where_the_reader_looks(tmp_path, monkeypatch, capsys, offered):
    folder, address = offered
    written = write_mnist(folder, compress=True)
    monkeypatch.setattr(images, "MNIST", replace(images.MNIST, aliases=("new",)))
    offer(monkeypatch, "MNIST", folder, address)
    with pytest.raises(BadInput, match="--download"):
        load_dataset("mnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    dataset = load_dataset("mnist", tmp_path / "data", download=True)
    assert np.array_equal(dataset.test.values[:, 0], written["test"])
    assert capsys.readouterr().out == ""
    for path in folder.iterdir():
        path.unlink()
    assert len(load_dataset("mnist", tmp_path / "data", download=True).test) == 20


def test_an_archive_is_unpacked(tmp_path, monkeypatch, offered):
    folder, address = offered
    write_cifar(tmp_path / "source", 10)
    (source,) = (tmp_path / "source").iterdir()
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(images, "CIFAR10", replace(images.CIFAR10, fetch=Download(address, files)))
    theirs, ours = load_dataset("cifar10", tmp_path / "source"), load_dataset("cifar10", tmp_path, download=True)
    assert np.array_equal(ours.test.values, theirs.test.values)


def test_a_file_with_another_hash_is_refused_and_not_kept(tmp_path, monkeypatch, offered):
    folder, address = offered
    write_mnist(folder, compress=True)
    offer(monkeypatch, "MNIST", folder, address)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"the download to .* failed: SHA256 hash of downloaded file"):
        load_dataset("mnist", tmp_path / "data", download=True)
    assert not (tmp_path / "data" / "new" / "train-images-idx3-ubyte.gz").exists()


DOWNLOADS = [layout.fetch for layout in (images.MNIST, images.FASHION_MNIST, images.CIFAR10, images.CIFAR100)]


@pytest.mark.parametrize("download", DOWNLOADS, ids=lambda download: download.address.split("/")[2])
def test_every_data_set_comes_over_tls_with_its_sha256(download):
    assert download.address.startswith("https://")
    assert download.address.endswith("/")
    assert all(len(digits) == 64 for digits in download.files.values())


def test_plain_http_and_short_hashes_are_refused():
    with pytest.raises(ValueError, match=r"address 'http://example\.org/' is not https://"):
        Download("http://example.org/", {})
    with pytest.raises(ValueError, match="hash of a is 'c58f30108f718f92721af3b95e74349a', not the 64 digits"):
        Download("https://example.org/", {"a": "c58f30108f718f92721af3b95e74349a"})


def test_a_server_that_sends_elsewhere_is_not_followed(tmp_path, monkeypatch, offered):
    """The address of a folder without its slash is such a case: the server sends on to the one with it."""
    folder, address = offered
    (folder / "train").mkdir()
    elsewhere = replace(images.MNIST, fetch=Download(address, {"train": hashlib.sha256(b"x").hexdigest()}))
    monkeypatch.setattr(images, "MNIST", elsewhere)
    with pytest.raises(BadInput, match="SHA256 hash of downloaded file"):
        load_dataset("mnist", tmp_path / "data", download=True)


def packed(path, *members):
    """Write an archive of (name, kind, link)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
    return path


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("/outside", tarfile.REGTYPE, ""),
        ("a/../../outside", tarfile.REGTYPE, ""),
        ("a\\..\\outside", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.LNKTYPE, "../outside"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
    ],
    ids=lambda member: f"{member[0]}-{member[1].decode()}",
)
def test_an_archive_that_reaches_outside_unpacks_nothing(tmp_path, member):
    home = tmp_path / "home"
    home.mkdir()
    archive = packed(tmp_path / "a.tar.gz", ("good", tarfile.REGTYPE, ""), member)
    with pytest.raises(ValueError, match=r"a\.tar\.gz: contains .*(leads out of|neither a file nor)"):
        unpack(archive, home)
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "home"]


def test_a_damaged_archive_unpacks_nothing(tmp_path):
    archive = packed(tmp_path / "a.tar.gz", *[(f"file {number}", tarfile.REGTYPE, "") for number in range(100)])
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a readable archive"):
        unpack(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_failed_download_is_one_line(tmp_path, monkeypatch, offered):
    _, address = offered
    nothing = Download(address, {"missing.tar.gz": 64 * "0"})
    monkeypatch.setattr(images, "CIFAR10", replace(images.CIFAR10, fetch=nothing))
    with pytest.raises(BadInput) as caught:
        load_dataset("cifar10", tmp_path, download=True)
    assert str(caught.value).startswith(f"data set 'cifar10': the download to {tmp_path} failed: 404 Client Error")
    assert "\n" not in str(caught.value)


def test_missing_package_is_named_with_its_command():
    with pytest.raises(MissingDependency) as caught:
        optional_module("no_such_package", "reading", "pip install it")
    assert str(caught.value) == "reading needs 'no_such_package', which is not installed; install it: pip install it"
