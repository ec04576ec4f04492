"""Data sets: open a saved one by its suffix, or an embedded one by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from cmi.checks import whole_number
from cmi.data.readers import Raw, Unreadable, find_reader, first_line
from cmi.data.sample_set import GUESSED, SampleSet, crop_slices, guess_channel_axis, to_unit_range
from cmi.samples import numeric

__all__ = ["EMBEDDED", "SampleSet", "crop_slices", "open_dataset", "to_unit_range"]


def _digits() -> Raw:
    """1,797 scanned 8x8 digits, bundled with scikit-learn (UCI ML hand-written digits, test set); levels 0..16."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    notes = ("grey levels 0..16 were divided by 16, to lie in [0, 1]",)
    return Raw(images / 16.0, len(images), "embedded", notes=notes)


def _exact(name: str) -> Raw:
    """Samples of a model with known CMI; the seed is the sample's own, not the scan's."""
    from cmi.exact.by_name import model_of
    from cmi.exact.closed_loops import ClosedLoops

    model, n, seed = model_of(name)
    notes: tuple[str, ...] = (f"samples of {model!r}, whose CMI is known: see cmi.exact",)
    if model.noise != "interpolation":
        notes = (*notes, f"its CMI is known for --noise {model.noise}")
    if isinstance(model, ClosedLoops):
        notes = (*notes, "it is known for its own regions of edges (model.partition), which a scan does not use")
    return Raw(model.sample(n, seed), n, "exact", 0 if len(model.shape) == 3 else None, notes=notes)


EMBEDDED: dict[str, Callable[[], Raw]] = {"digits": _digits}


def open_dataset(
    path_or_name: str | PathLike[str], *, key: str | None = None, limit: int | None = None
) -> SampleSet:
    """Open a saved data set as samples of shape (n, *shape) in floating point.

    Parameters
    ----------
    path_or_name : str or path
        The embedded ``"digits"``; samples of an exact model as ``"exact:chain?L=33&a=0.9&n=10000"`` (`cmi.exact`);
        or a file: .npy, .npz, .h5/.hdf5, .zarr, .pt/.pth, IDX (as MNIST names its
        files, plain or .gz), .csv, .parquet; or a folder of images of one size.
    key : str, optional
        Which array of a .npz, .h5, .zarr or .pt file; for tables the columns, as in ``"a,b,c"``.
    limit : int, optional
        Read the first so many samples only.

    Returns
    -------
    SampleSet
        Integer grey levels are scaled to [0, 1], which its notes say.

    Raises
    ------
    FileNotFoundError
        If there is no such file or embedded data set.
    ValueError
        If the file is truncated, corrupt, of unknown kind, needs a key, or would not fit into memory.
    ImportError
        If the format needs an extra that is not installed.

    Examples
    --------
    >>> open_dataset("digits", limit=100)
    SampleSet('digits', 100 samples of shape (8, 8), embedded)
    """
    if limit is not None:
        limit = whole_number(limit, "limit", least=1)
    name = fspath(path_or_name)
    if not name:
        raise ValueError("the name of the data set is empty")
    if name in EMBEDDED:
        if key is not None:
            raise ValueError(f"the embedded data set {name!r} takes no key, got {key!r}")
        raw = EMBEDDED[name]()
        if Path(name).exists():
            raw = replace(
                raw, notes=(*raw.notes, f"this is the embedded set: write ./{name} for the file of that name")
            )
    elif name.startswith("exact:"):
        if key is not None:
            raise ValueError(f"an exact model takes no key, got {key!r}")
        raw = _exact(name)
    else:
        path = Path(name).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"there is no file {name!r}, nor an embedded data set of that name ({', '.join(EMBEDDED)}); "
                "solvable models are written exact:NAME"
            )
        raw = _read(path, key, limit)
        name = path.resolve().name
    array = raw.array[:limit]
    if len(array) == 0:
        raise ValueError(f"{name} holds no samples: its array has shape {array.shape}")
    # the columns of a table have units of their own
    samples, scaling = (numeric(array), None) if raw.columns is not None else to_unit_range(array)
    notes = [*raw.notes, *([scaling] if scaling else [])]
    channel_axis = raw.channel_axis
    if channel_axis is None and raw.columns is None:
        channel_axis = guess_channel_axis(samples.shape[1:])
        if channel_axis is not None:
            notes.append(f"axis {channel_axis} of a sample, of size {samples.shape[1 + channel_axis]}, {GUESSED}")
    return SampleSet(np.asarray(samples), name, raw.format, raw.total, channel_axis, raw.columns, tuple(notes))


def _read(path: Path, key: str | None, limit: int | None) -> Raw:
    reader = find_reader(path)
    try:
        return reader(path, key, limit)
    except (Unreadable, PermissionError, ImportError, MemoryError):
        raise
    except Exception as error:  # each library raises its own for files that are cut short or something else
        raise ValueError(f"{path.name} cannot be read, it is truncated or corrupt: {first_line(error)}") from error
