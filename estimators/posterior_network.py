"""A posterior network for one part of the samples: made, trained, saved and read again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import numpy as np
import torch

from estimators.mean_answers import FEATURES, Means
from estimators.noisy_parities import Checks
from estimators.parity_checks import BitCode
from estimators.posterior_answers import Answers
from estimators.posterior_data import Start, Values
from estimators.posterior_training import train
from estimators.profile import FloatArray
from estimators.shell_network import ShellNetwork
from estimators.threads import available_threads
from estimators.trainer import Look, Settings, Training

__all__ = [
    "NetworkFile",
    "fast_matmul",
    "few_threads",
    "find_device",
    "leading_components",
    "make_answers",
    "trained_answers",
]

_Kind = TypeVar("_Kind", bound=Answers)
_FORMAT = 2  # 1: columns of all sizes were brought to one unit
_OTHER = "name another file, or remove it"
_NEAR = 1e-9


class NetworkFile:
    """Where networks are kept while they are trained, and after.

    Nothing in the file is executed: it holds tensors and plain values.

    Parameters
    ----------
    path : path or None
        None: nothing is kept.
    fingerprint : str
        Of the samples and the settings; a file of another is refused.
    places : sequence of float
        The levels that are asked for, rising. Networks that are done answer for those between their own too.
    count : int
        Networks that the file is to hold.

    Raises
    ------
    OSError
        If nothing can be written there: found out before training, not after.
    TypeError, ValueError
        If the file is that of other samples, options or levels, or holds something else.
    """

    def __init__(self, path: str | Path | None, fingerprint: str, places: Sequence[float], count: int) -> None:
        if not isinstance(path, (str, os.PathLike, NoneType)):
            raise TypeError(f"network must be the path of a file, got {path!r}")
        self.path = None if path is None else Path(path).expanduser()
        self.fingerprint, self.places, self.count = fingerprint, list(places), count
        self.parts: dict[str, dict[str, Any]] = {}
        if self.path is None:
            return
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder for the network {self.path} does not exist: make it first")
        if self.path.is_dir():
            raise IsADirectoryError(f"the network {self.path} is a folder: name a file")
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(f"the network {self.path} is in a folder that cannot be written to: name another")
        if self.path.exists():
            self.parts = self._read(self.path)

    def part(self, number: int) -> dict[str, Any] | None:
        """Return the state of a part, if the file has one."""
        return self.parts.get(str(number))

    def keep(self, number: int, state: dict[str, Any]) -> None:
        """Write the state of a part, all at once."""
        self.parts[str(number)] = state
        if self.path is None:
            return
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")  # another may write there too
        content = {
            "phase-scan": _FORMAT,
            "fingerprint": self.fingerprint,
            "places": self.places,
            "count": self.count,
            "parts": self.parts,
        }
        try:
            torch.save(content, partial)
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch has its own error for a full disk
            partial.unlink(missing_ok=True)
            raise OSError(f"the network could not be written to {self.path}: {error}") from error

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            version = int(content["phase-scan"])
            own, parts, count = content["fingerprint"], dict(content["parts"]), int(content["count"])
            places = [float(place) for place in content["places"]]
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} holds no posterior network: {_OTHER}") from error
        if version != _FORMAT:
            raise ValueError(f"the network in {path} is of another version of phase-scan: {_OTHER}")
        if own != self.fingerprint:
            raise ValueError(f"the network in {path} is of other samples or options: {_OTHER}")
        done = len(parts) == count and all(part["training"]["done"] for part in parts.values())
        within = not self.places or (places[0] - _NEAR <= self.places[0] and self.places[-1] <= places[-1] + _NEAR)
        if self.places != places and not (done and within):
            what = "was trained for other levels" if done else "is being trained for other levels"
            raise ValueError(f"the network in {path} {what}: {_OTHER}")
        self.places = places
        return parts


@contextmanager
def few_threads() -> Iterator[None]:
    """Keep torch on one thread where kernels are to be: workers that wait for each other take most of the time."""
    before = torch.get_num_threads()
    if available_threads() > 1 or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def find_device(name: str) -> torch.device:
    """Return a device of torch: of "auto" CUDA, MPS or the CPU, whichever there is first.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # one that holds no numbers, as "meta", is none
    except Exception as error:
        raise ValueError(f"there is no device {name!r} here: take auto, or cpu") from error
    return device


def make_answers(
    sizes: Sequence[int],
    values: Sequence[Values],
    covariance: FloatArray,
    *,
    hidden: int,
    layers: int,
    seed: int,
    device: torch.device,
    matmul: torch.dtype,
    bits: BitCode | None = None,
    means: bool = False,
) -> Answers:
    """Return a network of posteriors, or means, as it begins; `bits` is what parities clean bits obey, if any."""
    a = len(values)
    checks = None if bits is None else Checks(bits, len(sizes)).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ShellNetwork(
            [2 * a if a > 1 else 0, *sizes[1:]],
            FEATURES if means else max(len(each.hats) for each in values),
            hidden=hidden,
            layers=layers,
            parities=() if checks is None else checks.sizes,
            matmul=matmul,
        )
        network.begin_at(leading_components(covariance[a:, a:], sizes[1:], hidden // 2), 2 * a if a > 1 else 0)
        return (Means if means else Answers)(network, values, checks).to(device)


def trained_answers(
    make: Callable[..., _Kind],
    starts: Sequence[Start],
    clean: FloatArray,
    validation: FloatArray,
    settings: Settings,
    *,
    device: torch.device,
    file: NetworkFile,
    number: int,
    progress: Callable[[Look], None] | None,
) -> tuple[_Kind, Training]:
    """Make a network and train it, or take it from the file as far as it is there.

    It is made by ``make(seed=..., device=..., matmul=...)``.
    """
    saved = file.part(number)
    matmul = getattr(torch, saved["matmul"]) if saved is not None else fast_matmul(device)
    answers = make(seed=settings.seed, device=device, matmul=matmul)

    def save(state: dict[str, Any]) -> None:
        file.keep(number, {**state, "matmul": str(matmul).removeprefix("torch.")})

    training = train(answers, starts, clean, validation, settings, saved=saved, save=save, progress=progress)
    if not answers.network.nested:
        raise ValueError(f"the network in {file.path} is damaged: narrow buffers see beyond themselves; {_OTHER}")
    return answers, training


def fast_matmul(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor multiplies matrices of it faster, else float32.

    By what it says of itself, not by the clock, which beside other work says one thing now and another then.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
        fast = device.type == "cpu" and bool(told.get("avx512_bf16", False))
    return torch.bfloat16 if fast else torch.float32


def leading_components(covariance: FloatArray, shells: Sequence[int], count: int) -> list[torch.Tensor]:
    """Leading principal components of B_1, B_2, ..., at most so many."""
    components = []
    for end in np.cumsum(shells):
        vectors = np.linalg.eigh(covariance[:end, :end])[1] if end else np.zeros((0, 0))
        components.append(torch.as_tensor(vectors[:, ::-1][:, :count].copy(), dtype=torch.float32))
    return components
