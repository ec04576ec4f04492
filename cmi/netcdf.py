"""Files of results: netCDF-4, written whole or not at all, read with an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr

from cmi.output import check_output, replacing

__all__ = ["read_netcdf", "write_netcdf"]

_Result = TypeVar("_Result")


def write_netcdf(dataset: xr.Dataset, path: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a dataset.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    OSError
        If it cannot be written.
    """
    path = check_output(path, overwrite=overwrite)
    # HDF5 in memory: where it writes to a disk that is full it ends the process, not the call
    content = dataset.to_netcdf(engine="h5netcdf")
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def read_netcdf(
    path: str | PathLike[str], made: Callable[[xr.Dataset], _Result], *, newest: int, what: str
) -> _Result:
    """Read a dataset and what is made of it.

    Parameters
    ----------
    path : path
    made : callable
        Of the dataset; what it raises of what a dataset lacks or has too much says that the file is no such thing.
    newest : int
        Format that is known: a file with a later one is refused.
    what : str
        What it should be, for messages.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, is something else, is damaged, or was written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} file {str(path)!r}")
    try:
        dataset = xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read as a {what}: it is no netCDF-4 file or is damaged") from error
    written = dataset.attrs.get("format", 0)
    if isinstance(written, (int, np.integer)) and written > newest:
        raise ValueError(f"{path.name} was written by a newer version of phase-scan: update to read it")
    try:
        return made(dataset)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is no {what}, or is damaged: {error}") from error
