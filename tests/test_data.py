"""Data files: every format there and back, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cmi import open_dataset
from cmi.data import SampleSet, readers, to_unit_range

RNG = np.random.default_rng(0)
FLOATS = RNG.random((20, 6, 5))
BYTES = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    head = struct.pack(f">2xBB{array.ndim}I", code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path: Path, array: np.ndarray) -> str | None:
    """Write the array in the format of the suffix; return the key that reads it."""
    suffix = "".join(path.suffixes)
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez_compressed(path, images=array, labels=np.zeros(len(array)))
        return "images"
    elif suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("train/images", data=array, compression="gzip")
            file["labels"] = np.zeros(len(array))
        return "train/images"
    elif suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        zarr.create_array(str(path), data=array)
    elif suffix in (".pt", ".pth"):
        torch = pytest.importorskip("torch")
        torch.save(torch.from_numpy(array), path)
    elif path.name.endswith("idx3-ubyte.gz"):
        path.write_bytes(gzip.compress(idx_bytes(array)))
    else:
        path.write_bytes(idx_bytes(array))
    return None


NAMES = [
    "a.npy",
    "a.npz",
    "a.h5",
    "a.zarr",
    "a.pt",
    "a.pth",
    "t-images-idx3-ubyte",
    "t-images-idx3-ubyte.gz",
    "a.idx",
]


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    key = write(tmp_path / name, BYTES)
    data = open_dataset(tmp_path / name, key=key)
    np.testing.assert_allclose(data.samples, BYTES / 255, atol=1e-7)
    assert data.samples.dtype == np.float32
    assert data.notes == ("integer values were divided by 255, to lie in [0, 1]",)
    assert (data.name, data.shape, len(data), data.total) == (name, (6, 5), 20, 20)
    part = open_dataset(str(tmp_path / name), key=key, limit=7)
    np.testing.assert_array_equal(part.samples, data.samples[:7])
    assert part.total == 20
    assert f"SampleSet('{name}', 7 samples of shape (6, 5)" in repr(part)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.zarr", "a.pt"])
def test_floats_are_kept(name: str, tmp_path: Path) -> None:
    key = write(tmp_path / name, FLOATS)
    data = open_dataset(tmp_path / name, key=key)
    np.testing.assert_array_equal(data.samples, FLOATS)
    assert data.notes == ()


def test_idx_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "a-idx2-float"
    path.write_bytes(idx_bytes(FLOATS[:, 0].astype(np.float32), code=0x0D))
    np.testing.assert_array_equal(open_dataset(path).samples, FLOATS[:, 0].astype(np.float32))


def test_zarr_groups(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    group.create_array("deep/images", data=FLOATS)
    with pytest.raises(ValueError, match="give a key, one of deep/images"):
        open_dataset(tmp_path / "g.zarr")
    np.testing.assert_array_equal(open_dataset(tmp_path / "g.zarr", key="deep/images").samples, FLOATS)


def test_torch_containers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    images, labels = torch.from_numpy(BYTES), torch.zeros(20)
    torch.save((images, labels), tmp_path / "tuple.pt")
    torch.save({"x": images, "y": labels}, tmp_path / "dict.pt")
    for name, key in (("tuple.pt", "0"), ("dict.pt", "x")):
        assert open_dataset(tmp_path / name, key=key).shape == (6, 5)
        with pytest.raises(ValueError, match="give a key"):
            open_dataset(tmp_path / name)


def save_images(folder: Path, arrays: list[np.ndarray], suffix: str = ".png") -> None:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        image.fromarray(array).save(folder / f"{i:03d}{suffix}")


def test_folder_of_images(tmp_path: Path) -> None:
    save_images(tmp_path / "grey", list(BYTES))
    data = open_dataset(tmp_path / "grey")
    np.testing.assert_allclose(data.samples, BYTES / 255, atol=1e-7)
    assert (data.format, data.channel_axis) == ("images", None)
    colour = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    save_images(tmp_path / "colour", list(colour))
    data = open_dataset(tmp_path / "colour", limit=3)
    assert (data.shape, data.channel_axis, len(data), data.total) == ((6, 5, 3), 2, 3, 4)
    alpha = RNG.integers(0, 256, (2, 6, 5, 4), dtype=np.uint8)
    save_images(tmp_path / "alpha", list(alpha))
    assert "images of mode RGBA were read as RGB" in open_dataset(tmp_path / "alpha").notes


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        open_dataset(tmp_path)
    (tmp_path / "t-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"it holds t-idx3-ubyte\.gz: name one of them"):
        open_dataset(tmp_path)
    save_images(tmp_path / "mixed", [BYTES[0], BYTES[1][:4]])
    with pytest.raises(ValueError, match=r"images differ in size, channels or depth: 000\.png has shape \(6, 5\)"):
        open_dataset(tmp_path / "mixed")
    save_images(tmp_path / "broken", [BYTES[0]])
    (tmp_path / "broken" / "001.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"001\.png cannot be read as an image"):
        open_dataset(tmp_path / "broken")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": FLOATS[:, 0, 0], "b": FLOATS[:, 0, 1], "name": ["x"] * 20, "c": FLOATS[:, 0, 2]})
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    with pytest.raises(ValueError, match=r"the columns name of .* do not hold numbers: choose columns with a key"):
        open_dataset(path)
    with pytest.raises(ValueError, match="has no column 'z'"):
        open_dataset(path, key="a,z")
    data = open_dataset(path, key="c, a", limit=5)
    assert (data.columns, data.shape, data.total) == (("c", "a"), (2,), 20)
    np.testing.assert_allclose(data.samples, frame[["c", "a"]].to_numpy()[:5])


def test_tables_without_a_header(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "t.csv", FLOATS[:, 0], delimiter=",")
    data = open_dataset(tmp_path / "t.csv")
    np.testing.assert_allclose(data.samples, FLOATS[:, 0])
    assert "the first line holds numbers" in data.notes[0]


def test_embedded() -> None:
    data = open_dataset("digits")
    assert (data.shape, len(data), data.samples.max()) == ((8, 8), 1797, 1.0)
    assert len(open_dataset("digits", limit=10)) == 10


def test_channels_are_guessed_and_it_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "last.npy", np.zeros((3, 8, 8, 3)))
    np.save(tmp_path / "first.npy", np.zeros((3, 3, 8, 8)))
    np.save(tmp_path / "space.npy", np.zeros((3, 8, 8, 8)))
    last, first = open_dataset(tmp_path / "last.npy"), open_dataset(tmp_path / "first.npy")
    assert (last.channel_axis, first.channel_axis) == (2, 0)
    assert "axis 2 of a sample, of size 3, was taken for the channels" in last.notes
    assert open_dataset(tmp_path / "space.npy").channel_axis is None


@pytest.mark.parametrize(
    ("values", "dtype", "top", "note"),
    [
        ([0, 255], np.uint8, 1.0, "divided by 255"),
        ([0, 200], np.int64, 200 / 255, "divided by 255"),
        ([0, 200], np.uint16, 200 / 65535, "divided by 65535"),
        ([0, 65535], np.uint16, 1.0, "divided by 65535"),
        ([0, 100_000], np.int32, 1.0, "divided by 100000"),
        ([0, 1], np.uint8, 1.0, "0 and 1 were kept"),
        ([-1, 1], np.int8, 1.0, "not grey levels"),
        ([False, True], np.bool_, 1.0, "booleans"),
        ([0.0, 3.0], np.float64, 3.0, None),
    ],
)
def test_scaling(values: list[Any], dtype: Any, top: float, note: str | None) -> None:
    scaled, said = to_unit_range(np.array(values, dtype=dtype))
    assert scaled.max() == pytest.approx(top)
    assert (said is None) if note is None else (said is not None and note in said)


def test_crop() -> None:
    data = SampleSet(FLOATS, "x", "array", 20)
    np.testing.assert_array_equal(data.cropped("1:,:-2").samples, FLOATS[:, 1:, :-2])
    assert data.cropped("2:4").shape == (2, 5)
    table = SampleSet(FLOATS[:, 0], "x", "csv", 20, columns=tuple("abcde"))
    assert table.cropped("1:3").columns == ("b", "c")
    for bad, message in (
        ("1:,1:,1:", "has 3 parts"),
        ("1", "start:stop per axis"),
        ("a:b", "start:stop per axis"),
        ("1:2:3", "start:stop per axis"),
        ("6:", "leaves nothing of an axis of 6"),
    ):
        with pytest.raises(ValueError, match=message):
            data.cropped(bad)


class Evil:
    """Runs code when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    marker = tmp_path / "executed"
    np.save(tmp_path / "evil.npy", np.array([Evil(marker)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", x=np.array([Evil(marker)], dtype=object))
    torch.save(Evil(marker), tmp_path / "evil.pt")
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Evil(marker)))
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil(marker)))
    for name, key, message in (
        ("evil.npy", None, "pickled Python objects, which are never loaded"),
        ("evil.npz", "x", "pickled Python objects, which are never loaded"),
        ("evil.pt", None, "pickled Python objects, which are never loaded"),
        ("raw.npy", None, "raw.npy"),
        ("raw.pt", None, "raw.pt"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset(tmp_path / name, key=key)
    assert not marker.exists()


def test_zarr_codecs_that_run_code_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    unsafe: list[dict[str, Any]] = [
        {"dtype": "|O", "filters": [{"id": "pickle"}], "compressor": None},
        {"dtype": "<f8", "filters": None, "compressor": {"id": "pickle", "protocol": 5}},
        {"dtype": "|O", "filters": None, "compressor": None},
    ]
    for i, metadata in enumerate(unsafe):
        folder = tmp_path / f"{i}.zarr"
        folder.mkdir()
        full = {"zarr_format": 2, "shape": [1, 2], "chunks": [1, 2], "order": "C", "fill_value": 0, **metadata}
        (folder / ".zarray").write_text(json.dumps(full))
        marker = tmp_path / "executed"
        (folder / "0.0").write_bytes(pickle.dumps(Evil(marker)))
        with pytest.raises(
            ValueError, match=r"uses the codec '(pickle|object)', which is not one for plain numbers"
        ):
            open_dataset(folder)
        assert not marker.exists()


def test_tables_with_rows_longer_than_the_header(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("a,b\n1,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match=r"long\.csv"):
        open_dataset(tmp_path / "long.csv")


def test_tables_keep_their_units_and_types(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0, 200, 7], "b": [True, False, True], "c": pd.array([1, 2, 3], dtype="Int64")})
    frame.to_csv(tmp_path / "t.csv")
    data = open_dataset(tmp_path / "t.csv", key="a,b,c")
    assert data.samples.tolist() == [[0, 1, 1], [200, 0, 2], [7, 1, 3]]
    assert "looks like a saved index" in open_dataset(tmp_path / "t.csv").notes[-1]
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "t.parquet")
    assert open_dataset(tmp_path / "t.parquet", limit=2).samples.tolist() == [[0, 1, 1], [200, 0, 2]]


def test_parquet_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(readers, "MAX_BYTES", 10_000)
    pd.DataFrame({"a": np.zeros(5000), "b": np.zeros(5000)}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"give a limit of at most 625 samples"):
        open_dataset(tmp_path / "t.parquet")
    data = open_dataset(tmp_path / "t.parquet", limit=600)
    assert (len(data), data.total) == (600, 5000)


def test_fortran_order_in_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(FLOATS))
    np.testing.assert_array_equal(open_dataset(tmp_path / "f.npz", key="x", limit=5).samples, FLOATS[:5])


def test_images_of_sixteen_bits(tmp_path: Path) -> None:
    deep = (RNG.random((3, 6, 5)) * 65535).astype(np.uint16)
    save_images(tmp_path / "deep", list(deep))
    np.testing.assert_allclose(open_dataset(tmp_path / "deep").samples, deep / 65535, atol=1e-6)
    save_images(tmp_path / "mixed", [deep[0]])
    save_images(tmp_path / "mixed" / "more", [BYTES[0]])
    with pytest.raises(ValueError, match="images differ in size, channels or depth"):
        open_dataset(tmp_path / "mixed")


def test_empty_names_and_shadowed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the name of the data set is empty"):
        open_dataset("")
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "digits", FLOATS)
    (tmp_path / "digits.npy").rename(tmp_path / "digits")
    assert "write ./digits for the file of that name" in open_dataset("digits").notes[-1]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "a.zarr"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    key = write(path, BYTES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as caught:
        open_dataset(path, key=key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".pt", ".parquet", "-idx3-ubyte", "-idx3-ubyte.gz"])
def test_files_that_are_something_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_text("a,b\n1,2\n" * 50)
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as caught:
        open_dataset(path, key="x" if suffix in (".npz", ".h5") else None)
    assert "\n" not in str(caught.value)


def test_csv_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty\.csv is empty"):
        open_dataset(tmp_path / "empty.csv")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"ragged\.csv (cannot be read, it is truncated|has rows that are longer)"):
        open_dataset(tmp_path / "ragged.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(ValueError, match=r"binary\.csv"):
        open_dataset(tmp_path / "binary.csv")
    (tmp_path / "head.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"head\.csv holds no samples, only a header"):
        open_dataset(tmp_path / "head.csv")


def test_files_that_promise_too_much(tmp_path: Path) -> None:
    """Headers are believed only as far as the file could hold what they promise."""
    head = struct.pack(">2xBB3I", 8, 3, 4_000_000_000, 28, 28)
    (tmp_path / "big-idx3-ubyte").write_bytes(head + bytes(1000))
    with pytest.raises(ValueError, match="more than the file can hold"):
        open_dataset(tmp_path / "big-idx3-ubyte")
    (tmp_path / "big-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(1000)))
    with pytest.raises(ValueError, match="more than the file can hold"):
        open_dataset(tmp_path / "big-idx3-ubyte.gz")
    np.save(tmp_path / "small.npy", np.zeros((2, 2)))
    content = (tmp_path / "small.npy").read_bytes()
    (tmp_path / "big.npy").write_bytes(content.replace(b"(2, 2), ", b"(2,9999)"))
    with pytest.raises(ValueError, match=r"big\.npy is truncated"):
        open_dataset(tmp_path / "big.npy")
    with zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content.replace(b"(2, 2), ", b"(2,9999)"))
    with pytest.raises(ValueError, match=r"x in big\.npz promises more data than the file can hold"):
        open_dataset(tmp_path / "big.npz", key="x")


def test_a_real_bomb_needs_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does hold that much is refused before it is unpacked, unless a limit makes it small."""
    monkeypatch.setattr(readers, "MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros((100, 100)))
    (tmp_path / "z-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((100, 10, 10), dtype=np.uint8))))
    for name, key in (("zeros.npz", "x"), ("z-idx3-ubyte.gz", None)):
        with pytest.raises(ValueError, match=r"GiB in memory: give a limit of at most (12|25) samples"):
            open_dataset(tmp_path / name, key=key)
        assert len(open_dataset(tmp_path / name, key=key, limit=12)) == 12


def test_idx_with_more_than_it_promises(tmp_path: Path) -> None:
    (tmp_path / "long-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(BYTES) + b"x"))
    with pytest.raises(ValueError, match="goes on after the 20 samples"):
        open_dataset(tmp_path / "long-idx3-ubyte.gz")


def test_keys(tmp_path: Path) -> None:
    for name in ("a.npz", "a.h5"):
        write(tmp_path / name, FLOATS)
        with pytest.raises(ValueError, match="give a key, one of"):
            open_dataset(tmp_path / name)
        with pytest.raises(ValueError, match="has no array 'nope': it holds"):
            open_dataset(tmp_path / name, key="nope")
    np.save(tmp_path / "a.npy", FLOATS)
    with pytest.raises(ValueError, match="takes no key"):
        open_dataset(tmp_path / "a.npy", key="x")
    with pytest.raises(ValueError, match="takes no key"):
        open_dataset("digits", key="x")


def test_arrays_that_are_no_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(10))
    with pytest.raises(ValueError, match="are these the labels"):
        open_dataset(tmp_path / "labels.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 3)))
    with pytest.raises(ValueError, match="holds no samples"):
        open_dataset(tmp_path / "none.npy")
    np.save(tmp_path / "complex.npy", np.zeros((5, 3), dtype=complex))
    with pytest.raises(TypeError, match="complex values"):
        open_dataset(tmp_path / "complex.npy")


def test_names_and_limits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file 'nope', nor an embedded data set of that name"):
        open_dataset("nope")
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(ValueError, match=r"a\.xyz has no suffix that tells its format: known are \.csv"):
        open_dataset(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="limit must be at least 1"):
        open_dataset("digits", limit=0)
    with pytest.raises(TypeError, match="limit must be a whole number"):
        open_dataset("digits", limit=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.zarr", "zarr", "data"),
        ("a.pt", "torch", "torch"),
        ("a.parquet", "pyarrow", "data"),
        ("d", "PIL.Image", "data"),
    ],
)
def test_missing_extras_are_named(
    name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "d":
        save_images(tmp_path / name, [BYTES[0]])
    elif name == "a.zarr":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}: install it with pip install 'phase-scan\[{extra}\]'"):
        open_dataset(tmp_path / name)


def test_mnist_as_it_is_shipped(mnist_file: Path) -> None:
    data = open_dataset(mnist_file, limit=100)
    assert (data.shape, data.total) == ((28, 28), 60_000)
    assert 0.12 < data.samples.mean() < 0.15
    labels = mnist_file.with_name("train-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match="are these the labels"):
        open_dataset(labels)
    with pytest.raises(ValueError, match=r"it holds t10k-images-idx3-ubyte\.gz"):
        open_dataset(mnist_file.parent)
