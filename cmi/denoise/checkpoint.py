"""Files of denoisers, during training and after it: tensors and plain values, of which nothing is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmi.denoise.networks import GlobalDenoiser, LocalDenoiser, Preconditioned
from cmi.denoise.signature import SIGNATURE
from cmi.noise import noise_schedule
from cmi.output import check_output, replacing

__all__ = ["Checkpoint", "describe_denoiser", "is_trained", "load_denoiser", "save_denoiser"]

_FORMAT = 3  # 1: without the images that were seen; 2: with hashes of them, which are read no more
_KINDS: dict[str, type[LocalDenoiser] | type[GlobalDenoiser]] = {"local": LocalDenoiser, "global": GlobalDenoiser}
_OTHER = "name another file, or remove it"


class Checkpoint:
    """Where the training of a denoiser is kept.

    Parameters
    ----------
    path : path or None
        None: nowhere.
    denoiser : Preconditioned
    trained : dict
        How it is trained, and on which images; a file of another training is refused.
    about : dict
        What else is to be kept.

    Raises
    ------
    OSError
        If nothing can be written there: found out before training, not after.
    ValueError
        If the file is that of another training, or no denoiser at all.
    """

    def __init__(
        self,
        path: str | Path | None,
        denoiser: Preconditioned,
        trained: dict[str, Any],
        about: dict[str, Any],
    ) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.denoiser, self.trained, self.about = denoiser, trained, about
        self.saved: dict[str, Any] | None = None
        self.seen: Tensor | None = None
        if self.path is None:
            return
        check_output(self.path, overwrite=True)
        if self.path.exists():
            content = _read(self.path)
            differs = _differs(_told(content["made"], content["trained"]), _told(_made(denoiser), trained))
            if differs:
                raise ValueError(f"{self.path} holds a denoiser of other {differs}: {_OTHER}")
            _check_weights(self.path, content["network"], denoiser)
            self.saved, self.seen = content["state"], content["seen"]

    def keep(self, state: dict[str, Any]) -> None:
        """Write the state of the training, all at once; once it is done, with the network."""
        if self.path is not None:
            _write(self.path, self.denoiser, state, self.trained, self.about)


def save_denoiser(denoiser: Preconditioned, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a denoiser to a file for `load_denoiser`.

    Raises
    ------
    FileExistsError, OSError
        If the file exists, or cannot be written.
    """
    path = check_output(path, overwrite=overwrite)
    _write(path, denoiser, {"training": {"done": True}}, {}, {})


def is_trained(path: Path) -> bool:
    """Whether a file holds a denoiser whose training is done."""
    return path.expanduser().is_file() and bool(_read(path.expanduser())["state"]["training"]["done"])


def describe_denoiser(path: str | Path) -> dict[str, Any]:
    """What a file keeps of a denoiser beside the network: ``made``, ``trained`` (options, images) and ``about``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_denoiser`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    content = _read(path)
    return {key: content[key] for key in ("made", "trained", "about")}


def load_denoiser(path: str | Path) -> LocalDenoiser | GlobalDenoiser:
    """Read a denoiser that `train_denoiser` or `save_denoiser` wrote, onto the CPU.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, the file holds something else, or its training is not done.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    content = _read(path)
    if not content["state"]["training"]["done"]:
        raise ValueError(f"the training of {path} was interrupted: run it again to go on, then load it")
    try:
        made = dict(content["made"])
        noise = dict(made["noise"])
        schedule = noise_schedule(noise.pop("name"), **noise)
        with torch.device("meta"):  # which takes no memory, whatever sizes the file names
            denoiser = _KINDS[made["kind"]](tuple(made["shape"]), noise=schedule, **made["options"])
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path} holds no denoiser that this version can read: {error}") from error
    _check_weights(path, content["network"], denoiser)
    denoiser.load_state_dict(content["network"], assign=True)
    denoiser.trained_on = content["seen"]
    return denoiser.eval()


def _check_weights(path: Path, weights: dict[str, Tensor], denoiser: Preconditioned) -> None:
    """Raise a ValueError if they are not those of such a network: of another version's, by the same options."""
    own = {name: value.shape for name, value in denoiser.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != own:
        raise ValueError(
            f"{path} holds other weights than this version's networks have: train anew, to another file"
        )
    first = next(iter(weights.values()))
    if not first.is_floating_point() or not all(_plain(value, first.dtype) for value in weights.values()):
        raise ValueError(f"{path} holds weights that are no plain real numbers of one precision: {_OTHER}")
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise ValueError(f"{path} holds weights that are not finite: {_OTHER}")


def _plain(value: Any, kind: torch.dtype) -> bool:
    """Whether it is a dense tensor of that kind, which takes as much memory as it says."""
    return (
        isinstance(value, Tensor)
        and value.dtype == kind
        and value.layout == torch.strided
        and not value.is_meta
        and value.is_contiguous()
    )


def _told(made: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """All that a training is told by, by name."""
    options = made.get("options")
    every = {**made, **(options if isinstance(options, dict) else {}), **trained}
    return {name: value for name, value in every.items() if name != "options"}


def _differs(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What two trainings do not have in common, by name."""
    return ", ".join(name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name))


def _made(denoiser: Preconditioned) -> dict[str, Any]:
    """How a network is made again."""
    kind = next((name for name, each in _KINDS.items() if type(denoiser) is each), None)
    if kind is None:
        raise TypeError(f"files are for LocalDenoiser and GlobalDenoiser, not for {type(denoiser).__name__}")
    return {
        "kind": kind,
        "shape": list(denoiser.shape),
        "noise": denoiser.noise.to_dict(),
        "options": denoiser.options,
    }


def _write(
    path: Path,
    denoiser: Preconditioned,
    state: dict[str, Any],
    trained: dict[str, Any],
    about: dict[str, Any],
) -> None:
    content = {
        "phase-scan denoiser": _FORMAT,
        "trained": trained,
        "about": about,
        "made": _made(denoiser),
        "state": state,
        "seen": denoiser.trained_on,
        "network": {name: value.detach().cpu() for name, value in denoiser.state_dict().items()},
    }
    with replacing(path, overwrite=True) as temporary:
        torch.save(content, temporary)


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, each part of the kind that it must be."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a strange file torch's reader raises nearly anything
        raise ValueError(f"{path} holds no denoiser: {_OTHER}") from error
    if not isinstance(content, dict) or not isinstance(content.get("phase-scan denoiser"), int):
        raise ValueError(f"{path} holds no denoiser: {_OTHER}")
    if not 1 <= content["phase-scan denoiser"] <= _FORMAT:
        raise ValueError(f"{path} was written by a newer version of phase-scan: update to read it")
    plain = all(isinstance(content.get(part), dict) for part in ("trained", "about", "made", "state", "network"))
    if content["phase-scan denoiser"] < _FORMAT:
        content["seen"] = None
    seen = content.get("seen")
    if not (
        plain
        and isinstance(content["state"].get("training"), dict)
        and isinstance(content["state"]["training"].get("done"), bool)
        and all(isinstance(value, Tensor) for value in content["network"].values())
        and (seen is None or (_plain(seen, torch.int32) and seen.dim() == 2 and seen.shape[1] == SIGNATURE))
    ):
        raise ValueError(f"{path} holds no denoiser: {_OTHER}")
    return content
