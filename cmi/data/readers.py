"""Readers: one function per file format, chosen by suffix; nothing in a file is ever executed.

A reader takes the path, a key and a limit and returns a `Raw`.  Sizes are read from the headers and checked
before the data are, so that a small file cannot ask for all memory.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["READERS", "Raw", "Unreadable", "find_reader"]

MAX_BYTES = 16 * 2**30  # of samples in memory, as float64
_GZIP_RATIO = 1040  # deflate cannot expand by more


@dataclass(frozen=True)
class Raw:
    """What a reader found: the array as stored, how many samples the file holds, and remarks."""

    array: NDArray[Any]
    total: int
    format: str
    channel_axis: int | None = None
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


class Unreadable(ValueError):
    """A file that a reader understood well enough to say what is wrong with it."""


Reader = Callable[[Path, str | None, int | None], Raw]


def find_reader(path: Path) -> Reader:
    """Return the reader for a path, by suffix.

    Raises
    ------
    Unreadable
        If no reader knows the suffix.
    """
    if path.is_dir():
        return _read_zarr if path.suffix == ".zarr" else _read_folder
    name = path.name.lower()
    if re.search(r"(\.idx|idx\d-(u?byte|short|int|float|double))(\.gz)?$", name):
        return _read_idx
    if path.suffix.lower() in READERS:
        return READERS[path.suffix.lower()]
    raise Unreadable(
        f"{path.name} has no suffix that tells its format: known are {', '.join(sorted(READERS))}, IDX files as "
        "MNIST names them (plain or .gz), and folders of images"
    )


def _take(shape: Iterable[int], limit: int | None, name: str) -> int:
    """How many samples to read, after checking that they fit into memory."""
    sizes = [int(s) for s in shape]
    if len(sizes) < 2:
        raise Unreadable(
            f"{name} holds a {len(sizes)}-dimensional array, need (n, *shape)"
            + (": are these the labels?" if len(sizes) == 1 else "")
        )
    n = sizes[0] if limit is None else min(limit, sizes[0])
    each = 8 * math.prod(sizes[1:])  # at most: integers become float32
    if n * each > MAX_BYTES:
        raise Unreadable(
            f"{name} would take {n * each / 2**30:.1f} GiB in memory: give a limit of at most {MAX_BYTES // each} "
            "samples"
        )
    return n


def _need(module: str, suffix: str, extra: str) -> Any:
    """Import an optional module, or say how to get it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"reading {suffix} needs {module}: install it with pip install 'phase-scan[{extra}]'"
        ) from None


def _pick(names: list[str], key: str | None, file: str) -> str:
    """Return the key of one of several arrays in a file, or say which there are."""
    if not names:
        raise Unreadable(f"{file} holds no arrays")
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if key is None:
        raise Unreadable(f"{file} holds arrays by name: give a key, one of {shown}")
    if key not in names:
        raise Unreadable(f"{file} has no array {key!r}: it holds {shown}")
    return key


def _no_key(key: str | None, path: Path) -> None:
    if key is not None:
        raise Unreadable(f"{path.name} holds one array and takes no key, got {key!r}")


def _npy_header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Unreadable(f"{name} has the unknown .npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise Unreadable(f"{name} holds pickled Python objects, which are never loaded: save it as plain numbers")
    return shape, fortran, dtype


def _read_npy(path: Path, key: str | None, limit: int | None) -> Raw:
    _no_key(key, path)
    with path.open("rb") as file:
        shape, _, dtype = _npy_header(file, path.name)
        present = path.stat().st_size - file.tell()
    if present < math.prod(shape) * dtype.itemsize:
        raise Unreadable(
            f"{path.name} is truncated: {math.prod(shape) * dtype.itemsize} bytes promised, {present} there"
        )
    n = _take(shape, limit, path.name)
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    return Raw(np.array(stored[:n]), shape[0], "npy")


def _read_npz(path: Path, key: str | None, limit: int | None) -> Raw:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        key = _pick(names, key, path.name)
        packed = archive.getinfo(f"{key}.npy").compress_size
        with archive.open(f"{key}.npy") as file:
            shape, fortran, dtype = _npy_header(file, f"{key} in {path.name}")  # type: ignore[arg-type]
            n = _take(shape, None if fortran else limit, f"{key} in {path.name}")
            if math.prod(shape) * dtype.itemsize > _GZIP_RATIO * packed + 1024:
                raise Unreadable(f"{key} in {path.name} promises more data than the file can hold: it is corrupt")
            wanted = n * math.prod(shape[1:]) * dtype.itemsize
            content = file.read(wanted)
    if len(content) < wanted:
        raise Unreadable(f"{key} in {path.name} is truncated: {wanted} bytes promised, {len(content)} there")
    values = np.frombuffer(content, dtype=dtype)
    array = values.reshape(shape[::-1]).T[:limit] if fortran else values.reshape(n, *shape[1:])
    return Raw(np.array(array), shape[0], "npz")


def _read_h5(path: Path, key: str | None, limit: int | None) -> Raw:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        data = file[_pick(names, key.strip("/") if key else None, path.name)]
        n = _take(data.shape, limit, f"{key} in {path.name}")
        return Raw(np.asarray(data[:n]), int(data.shape[0]), "HDF5")


def _read_zarr(path: Path, key: str | None, limit: int | None) -> Raw:
    zarr = _need("zarr", ".zarr", "data")
    _check_codecs(path)
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Group):
        names = [name for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array)]
        node = node[_pick(names, key, path.name)]
    else:
        _no_key(key, path)
    n = _take(node.shape, limit, path.name)
    return Raw(np.asarray(node[:n]), int(node.shape[0]), "zarr")


_ZARR_CODECS = {
    "blosc",
    "zstd",
    "gzip",
    "zlib",
    "lz4",
    "lzma",
    "bz2",
    "shuffle",
    "delta",
    "crc32",
    "crc32c",
    "adler32",
}
_ZARR_CODECS |= {"bytes", "endian", "transpose", "sharding_indexed", "fixedscaleoffset", "bitround", "quantize"}


def _check_codecs(path: Path) -> None:
    """Let only codecs that decode numbers touch the data: zarr also knows ones that unpickle them."""
    for file in sorted(path.rglob("*")):
        if file.name not in ("zarr.json", ".zarray", ".zmetadata"):
            continue
        for codec in _named_codecs(json.loads(file.read_text())):
            plain = codec.removeprefix("numcodecs.").lower()
            if plain not in _ZARR_CODECS:
                raise Unreadable(
                    f"{path.name} uses the codec {codec!r}, which is not one for plain numbers: not opened"
                )


def _named_codecs(content: Any) -> Iterator[str]:
    """Codecs that zarr metadata name, versions 2 and 3, at any depth; "object" for an object dtype."""
    if isinstance(content, list):
        for item in content:
            yield from _named_codecs(item)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key in ("codecs", "index_codecs", "filters", "compressor") and value is not None:
                for codec in value if isinstance(value, list) else [value]:
                    if isinstance(codec, dict):
                        yield str(codec.get("id", codec.get("name", "nameless")))
            if key == "dtype" and isinstance(value, str) and "O" in value:
                yield "object"
            yield from _named_codecs(value)


def _read_torch(path: Path, key: str | None, limit: int | None) -> Raw:
    from cmi.samples import as_array

    torch = _need("torch", path.suffix, "torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise Unreadable(
                f"{path.name} holds pickled Python objects, which are never loaded: save plain tensors"
            ) from None
        raise
    if not isinstance(content, torch.Tensor):
        if isinstance(content, (tuple, list)):
            content = {str(i): item for i, item in enumerate(content)}
        if not isinstance(content, dict):
            raise Unreadable(f"{path.name} holds a {type(content).__name__}, not a tensor")
        tensors = {str(name): item for name, item in content.items() if isinstance(item, torch.Tensor)}
        content = tensors[_pick(list(tensors), key, path.name)]
    else:
        _no_key(key, path)
    n = _take(content.shape, limit, path.name)
    return Raw(np.array(as_array(content[:n])), int(content.shape[0]), "torch")


_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def _read_idx(path: Path, key: str | None, limit: int | None) -> Raw:
    _no_key(key, path)
    packed = path.stat().st_size
    zipped = path.suffix.lower() == ".gz"
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
            raise Unreadable(f"{path.name} does not begin as an IDX file does")
        dtype, dims = np.dtype(_IDX_TYPES[head[2]]), head[3]
        sizes = file.read(4 * dims)
        if len(sizes) < 4 * dims:
            raise Unreadable(f"{path.name} is truncated inside its header")
        shape = struct.unpack(f">{dims}I", sizes)
        promised = math.prod(shape) * dtype.itemsize
        if promised > packed * (_GZIP_RATIO if zipped else 1) + 1024:
            raise Unreadable(
                f"{path.name} promises {promised} bytes, more than the file can hold: truncated or corrupt"
            )
        n = _take(shape, limit, path.name)
        wanted = n * math.prod(shape[1:]) * dtype.itemsize
        content = file.read(wanted)
        if len(content) < wanted:
            raise Unreadable(f"{path.name} is truncated: {wanted} bytes of samples promised, {len(content)} there")
        if n == shape[0] and file.read(1):
            raise Unreadable(f"{path.name} goes on after the {n} samples that its header promises: it is corrupt")
    array = np.frombuffer(content, dtype=dtype).reshape(n, *shape[1:])
    return Raw(array.astype(dtype.newbyteorder("=")), int(shape[0]), "IDX")


_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"}


def _read_folder(path: Path, key: str | None, limit: int | None) -> Raw:
    _no_key(key, path)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _IMAGES and file.is_file())
    if not files:
        others = sorted(file.name for file in path.iterdir())[:4]
        hint = f"; it holds {', '.join(others)}: name one of them" if others else ""
        raise Unreadable(f"the folder {path.name} holds no images ({', '.join(sorted(_IMAGES))}){hint}")
    image_module = _need("PIL.Image", "images", "data")
    pictures: list[NDArray[Any]] = []
    notes: set[str] = set()
    for file in files[:limit]:
        pixels, note = _read_image(image_module, file)
        if pictures and (pixels.shape, pixels.dtype) != (pictures[0].shape, pictures[0].dtype):
            raise Unreadable(
                f"images differ in size, channels or depth: {files[0].name} has shape {pictures[0].shape} and "
                f"{pictures[0].dtype}, {file.name} {pixels.shape} and {pixels.dtype}"
            )
        if not pictures:
            _take((len(files), *pixels.shape), limit, path.name)
        pictures.append(pixels)
        notes |= {note} if note else set()
    channel_axis = 2 if pictures[0].ndim == 3 else None
    return Raw(np.stack(pictures), len(files), "images", channel_axis, notes=tuple(sorted(notes)))


def _read_image(image_module: Any, file: Path) -> tuple[NDArray[Any], str | None]:
    import warnings

    note = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(file) as image:
                if getattr(image, "n_frames", 1) > 1:
                    note = "of images with several frames the first was read"
                if image.mode not in ("1", "L", "RGB", "I", "F") and not image.mode.startswith("I;16"):
                    mode = "L" if image.mode == "LA" else "RGB"
                    note = f"images of mode {image.mode} were read as {mode}"
                    image = image.convert(mode)
                pixels = np.array(image)
                return pixels.astype(pixels.dtype.newbyteorder("=")), note
    except Exception as error:  # noqa: BLE001  (each plugin raises its own)
        raise Unreadable(f"{file.name} cannot be read as an image: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """What a library says, in one line; its type where it says nothing."""
    return next(iter(str(error).strip("'\" \n").splitlines()), type(error).__name__)


def _read_table(path: Path, key: str | None, limit: int | None) -> Raw:
    wanted = None if key is None else [name.strip() for name in key.split(",")]
    read = _read_parquet if path.suffix.lower() == ".parquet" else _read_csv
    frame, total, notes = read(path, wanted, limit)
    odd = [str(name) for name, dtype in frame.dtypes.items() if getattr(dtype, "kind", "O") not in "fiub"]
    if odd:
        raise Unreadable(
            f"the columns {', '.join(odd[:5])} of {path.name} do not hold numbers: choose columns with a key such "
            "as a,b,c"
        )
    if "Unnamed: 0" in frame.columns:
        notes = (
            *notes,
            "the column 'Unnamed: 0' looks like a saved index: choose columns with a key to leave it out",
        )
    columns = tuple(map(str, frame.columns))
    return Raw(
        frame.to_numpy(dtype=np.float64, na_value=np.nan), total, path.suffix[1:], columns=columns, notes=notes
    )


def _check_columns(path: Path, wanted: list[str] | None, columns: list[str]) -> list[str]:
    for name in wanted or []:
        if name not in columns:
            raise Unreadable(f"{path.name} has no column {name!r}: it has {', '.join(columns[:10])}")
    return wanted or columns


def _read_parquet(
    path: Path, wanted: list[str] | None, limit: int | None
) -> tuple[pd.DataFrame, int, tuple[str, ...]]:
    _need("pyarrow", ".parquet", "data")
    parquet = _need("pyarrow.parquet", ".parquet", "data")
    arrow = _need("pyarrow", ".parquet", "data")
    with parquet.ParquetFile(path) as file:
        names = _check_columns(path, wanted, list(file.schema_arrow.names))
        total = int(file.metadata.num_rows)
        n = _take((total, len(names)), limit, path.name)
        batches, have = [], 0
        for batch in file.iter_batches(batch_size=min(max(n, 1), 65_536), columns=names):
            batches.append(batch[: n - have])
            have += len(batches[-1])
            if have >= n:
                break
        table = arrow.Table.from_batches(batches, schema=None if batches else file.schema_arrow)
    return table.to_pandas()[names], total, ()


def _read_csv(path: Path, wanted: list[str] | None, limit: int | None) -> tuple[pd.DataFrame, int, tuple[str, ...]]:
    import warnings

    import pandas as pd

    try:
        head = pd.read_csv(path, nrows=0, index_col=False)
    except pd.errors.EmptyDataError:
        raise Unreadable(f"{path.name} is empty") from None
    headless = all(_is_number(name) for name in head.columns)
    notes = ("the first line holds numbers: read as a sample, columns named 0, 1, ...",) if headless else ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, header=None if headless else 0, nrows=limit, index_col=False)
    except pd.errors.ParserWarning:
        raise Unreadable(f"{path.name} has rows that are longer than its header: repair the file") from None
    if frame.empty:
        raise Unreadable(f"{path.name} holds no samples, only a header")
    total = len(frame)
    if limit is not None and total == limit:
        with path.open("rb") as file:
            total = sum(1 for line in file if line.strip()) - (not headless)
    frame.columns = pd.Index([str(c) for c in frame.columns])
    return frame[_check_columns(path, wanted, list(frame.columns))], total, notes


def _is_number(text: object) -> bool:
    try:
        float(re.sub(r"(\.\d+)\.\d+$", r"\1", str(text)))  # pandas renames a repeated 0.5 to 0.5.1
    except ValueError:
        return False
    return True


READERS: dict[str, Reader] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".csv": _read_table,
    ".parquet": _read_table,
    ".zarr": _read_zarr,
}
