"""Output files: checked before the work that they are for, and whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

__all__ = ["check_output", "replacing"]


def check_output(path: str | PathLike[str], *, overwrite: bool) -> Path:
    """Check that a file can be written.

    Raises
    ------
    FileExistsError, FileNotFoundError, IsADirectoryError, PermissionError
        With a message that says what to do.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists: choose another name, or overwrite it (--overwrite)")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {str(folder)!r} for {path.name} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {str(folder)!r} cannot be written to")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside the target, and move that file into place if the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are for the owner only
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
