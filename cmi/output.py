"""Output files: checked before the work that they are for, and whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

__all__ = ["check_output", "check_outputs", "replacing"]


def check_output(path: str | PathLike[str], *, overwrite: bool) -> Path:
    """Check that a file can be written.

    Raises
    ------
    FileExistsError, FileNotFoundError, IsADirectoryError, PermissionError, OSError
        With a message that says what to do.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file")
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists: choose another name, or overwrite it (--overwrite)")
    if os.path.lexists(path) and not path.is_file():
        raise OSError(f"{str(path)!r} is no ordinary file: choose another name")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {str(folder)!r} for {path.name} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {str(folder)!r} cannot be written to")
    if len(os.fsencode(path.name)) > 230:  # file systems allow 255, and the temporary name is a little longer
        raise OSError(f"the file name {path.name[:20]!r}... is too long: choose a shorter one")
    return path


def check_outputs(
    targets: Iterable[str | PathLike[str] | None],
    inputs: Iterable[str | PathLike[str] | None] = (),
    *,
    overwrite: bool,
) -> None:
    """Check that files can be written, each under a name of its own, none of which is that of an input.

    Raises
    ------
    ValueError
        For two outputs of one name, and for one that is an input too.
    FileExistsError, OSError
        As `check_output`.
    """
    read = [Path(path).expanduser() for path in inputs if path is not None]
    seen: list[Path] = []
    for target in targets:
        if target is None:
            continue
        path = Path(target).expanduser()
        if any(_same(path, other) for other in seen):
            raise ValueError(f"{str(path)!r} is to be written twice: give each output a name of its own")
        if any(_same(path, other) for other in read):
            raise ValueError(f"{str(path)!r} is an input too, and would be lost: name another file")
        seen.append(check_output(path, overwrite=overwrite))


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, that need not exist."""
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, ValueError):  # one that does not exist, or is no name of a file
        return False


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name beside the target, and move that file into place if the block ends well.

    Without `overwrite` a file that has appeared there in the meantime stays, and a FileExistsError says so.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".phase-scan-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are for the owner only
        if overwrite:
            temporary.replace(path)
        else:
            _place(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}: it could not be written", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Give a file its name unless another has it: a hard link is made in one step, or not at all."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(f"{str(path)!r} has appeared during the work: it was left as it is") from None
    except OSError:  # a file system without hard links: there a race is possible, and small
        if os.path.lexists(path):
            raise FileExistsError(f"{str(path)!r} has appeared during the work: it was left as it is") from None
        temporary.replace(path)
