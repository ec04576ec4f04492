"""Work that is cut short: what Ctrl-C, a failure or a full disk leave, and how it goes on from there."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from commands import FAST, call, fails

from cmi import PhaseScan, open_dataset, phase_scan, scan_sizes
from cmi.scan import ScanInterrupted

# What shells run in the background ignores Ctrl-C: not so here.
LISTENING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    from cmi.cli import main
    main()
"""


def interrupted(arguments: list[str], cwd: Path, times: int = 1) -> tuple[int, str]:
    """Start phase-scan on a terminal, wait until its bar shows two finished levels or more, press Ctrl-C."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
        start_new_session=True,
    ) as child:
        os.close(follower)
        screen = ""
        sent = False
        patience = threading.Timer(100, child.kill)
        patience.start()
        try:
            while chunk := read(leader):
                screen += chunk
                # The bar is drawn ten times a second: it may show any number, two among them or not.
                if not sent and any(int(shown) >= 2 for shown in re.findall(r"\b(\d+)/30\b", screen)):
                    for _ in range(times):
                        os.killpg(child.pid, signal.SIGINT)
                        time.sleep(0.01)
                    sent = True
            code = child.wait()
        finally:
            patience.cancel()
            child.kill()
            os.close(leader)
    assert sent, screen
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", screen)


def read(terminal: int) -> str:
    """What the terminal's programs wrote next; nothing when the last of them has ended."""
    try:
        return os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        return ""


Cut = Callable[..., list[float]]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Cut:
    """A function: from now on let so many levels be finished, then raise; it returns the list of those finished."""
    put = PhaseScan.put

    def start(stop: int, error: type[BaseException] = KeyboardInterrupt) -> list[float]:
        done: list[float] = []

        def put_or_raise(self: PhaseScan, t: float, *arguments: object) -> None:
            if len(done) == stop:
                raise error
            done.append(t)
            put(self, t, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(PhaseScan, "put", put_or_raise)
        return done

    return start


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [("1", 1), ("2", 3)])
def test_interrupting_keeps_what_was_finished(
    workers: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pressing three times is pressing once."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((4000, 9, 9)))
    arguments = [
        "run",
        "x.npy",
        "--method",
        "ksg",
        "--levels",
        "0.1:0.9:30",
        "--out",
        "s.nc",
        "--workers",
        workers,
    ]
    code, screen = interrupted(arguments, tmp_path, times)
    assert code == 130, screen
    assert "levels finished, kept in s.partial.nc" in screen
    assert "Traceback" not in screen
    assert not (tmp_path / "s.nc").exists()
    partial = PhaseScan.load(tmp_path / "s.partial.nc")
    finished = int(partial.dataset.finished.sum())
    assert 2 <= finished < 30
    assert np.isfinite(partial.dataset.cmi.values[partial.dataset.finished.values == 1]).all()
    shown = call("show", "s.partial.nc")
    assert f"{30 - finished} of 30 levels are not computed" in shown.stdout


def test_the_partial_file_overwrites_nothing_and_can_be_resumed(tmp_path: Path, cut: Cut) -> None:
    (tmp_path / "s.partial.nc").write_text("mine")
    arguments = ["run", "digits", *FAST, "--out", str(tmp_path / "s.nc")]
    cut(1)
    result = call(*arguments)
    assert result.exit_code == 130
    assert "1 of 3 levels finished, kept in" in result.stderr.replace("\n", " ")
    assert (tmp_path / "s.partial.nc").read_text() == "mine"
    cut(99)
    resumed = call(*arguments, "--resume", tmp_path / "s.partial1.nc")
    assert resumed.exit_code == 0, resumed.stderr
    assert PhaseScan.load(tmp_path / "s.nc").complete
    fails(
        "the scan to resume differs in radius",
        *arguments[:-1],
        tmp_path / "t.nc",
        "--radius",
        "1",
        "--resume",
        tmp_path / "s.nc",
    )
    cut(1)
    assert "there is no --out to keep it in" in call("run", "digits", *FAST).stderr.replace("\n", " ")


@pytest.mark.parametrize("becomes", ["nothing", "another error", "a full disk"])
def test_an_interrupt_that_is_lost_is_heeded(becomes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what is raised in a finalizer, and compiled code may make another error of it."""
    put, done = PhaseScan.put, []

    def lose(self: PhaseScan, *arguments: object) -> None:
        put(self, *arguments)  # type: ignore[arg-type]
        done.append(arguments)
        if len(done) == 2:
            with pytest.raises(KeyboardInterrupt) as pressed:
                signal.raise_signal(signal.SIGINT)
            if becomes == "another error":
                raise SystemError("returned a result with an exception set") from pressed.value
            if becomes == "a full disk":
                raise OSError("it could not be written")

    monkeypatch.setattr(PhaseScan, "put", lose)
    result = call("run", "digits", *FAST, "--out", tmp_path / "s.nc")
    assert result.exit_code == (1 if becomes == "a full disk" else 130), result.stderr  # that is to be told
    assert ("it could not be written" in result.stderr) == (becomes == "a full disk")
    assert "2 of 3 levels finished, kept in" in result.stderr
    monkeypatch.undo()
    fails("no scan file", "show", tmp_path / "s.nc")  # what fails later is an error as ever


def test_the_scan_is_safe_before_it_is_printed(tmp_path: Path) -> None:
    """A reader that goes away, as in `phase-scan run ... | true`, costs nothing."""
    script = f"{sys.executable} -m cmi.cli run digits --levels 0.5 --limit 200 --out s.nc | true"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    assert PhaseScan.load(tmp_path / "s.nc").complete


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = PhaseScan.put

    def appear(self: PhaseScan, *arguments: object) -> None:
        (tmp_path / "s.nc").write_text("mine")
        put(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PhaseScan, "put", appear)
    result = call("run", "digits", *FAST, "--out", tmp_path / "s.nc")
    assert result.exit_code == 1
    assert "3 of 3 levels finished, kept in" in result.stderr
    assert "--resume" not in result.stderr  # there is nothing left to do
    assert (tmp_path / "s.nc").read_text() == "mine"
    assert PhaseScan.load(tmp_path / "s.partial.nc").complete


def test_of_several_sizes_that_cannot_all_be_saved_all_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = PhaseScan.put

    def appear(self: PhaseScan, *arguments: object) -> None:
        (tmp_path / "s.L7.nc").write_text("mine")
        put(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PhaseScan, "put", appear)
    assert call(*SIZES, "--out", tmp_path / "s.nc").exit_code == 1
    assert (tmp_path / "s.L7.nc").read_text() == "mine"
    assert not (tmp_path / "s.L5.nc").exists()
    assert all(PhaseScan.load(tmp_path / f"s.partial.L{size}.nc").complete for size in (5, 7))


def test_a_full_disk_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    """HDF5 ends the whole process where it cannot write; here a limit on the size of files stands for the disk."""
    script = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from cmi.cli import main
main()
"""
    for output in (["run", "digits", *FAST, "--out", "s.nc"], ["run", "digits", *FAST, "--plot", "s.png"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *output],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert re.search(r"Error: .*: it could not be written: 's\.(nc|png)'", done.stderr), done.stderr
        assert list(tmp_path.iterdir()) == []
    assert "they are lost" not in done.stderr


def test_a_scan_that_fails_keeps_what_was_finished(tmp_path: Path, cut: Cut) -> None:
    cut(1, MemoryError)
    result = call("run", "digits", *FAST, "--out", tmp_path / "s file.nc")
    assert result.exit_code == 1
    assert "Failed with 1 of 3 levels finished, kept in" in result.stderr
    assert f"--resume '{tmp_path / 's file.partial.nc'}'" in result.stderr  # can be pasted into a shell
    assert int(PhaseScan.load(tmp_path / "s file.partial.nc").dataset.finished.sum()) == 1
    cut(1, BrokenProcessPool)
    fails("a worker process was killed", "run", "digits", *FAST, kept=True)


def test_nohup_stays_in_force() -> None:
    """A signal that was ignored when the program began does not interrupt it."""
    script = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.default_int_handler)
from cmi.workers import signals
with signals():
    os.kill(os.getpid(), signal.SIGHUP)
    print("still here")
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["still here", "interrupted", "True"]


def test_resuming_onto_the_same_file_loses_no_level(tmp_path: Path) -> None:
    assert call("run", "digits", "--limit", "200", "--levels", "0.2,0.5", "--out", tmp_path / "s.nc").exit_code == 0
    again: list[str | Path] = [
        "run",
        "digits",
        "--limit",
        "200",
        "--out",
        tmp_path / "s.nc",
        "--overwrite",
        "--resume",
        tmp_path / "s.nc",
    ]
    fails("lose its level t = 0.2", *again, "--levels", "0.5,0.8")
    assert call(*again, "--levels", "0.2,0.5,0.8").exit_code == 0
    assert PhaseScan.load(tmp_path / "s.nc").dataset.sizes["t"] == 3
    fails(
        "the picture would replace the scan", "plot", tmp_path / "s.nc", "--out", tmp_path / "s.nc", "--overwrite"
    )


def test_refined_levels_survive_the_next_run_onto_the_same_file(tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        "run",
        "exact:chain?L=15&n=1000",
        "--levels",
        "0.4,0.6,0.8",
        "--out",
        tmp_path / "s.nc",
    ]
    assert call(*arguments, "--refine", "2").exit_code == 0
    first = PhaseScan.load(tmp_path / "s.nc").dataset
    assert first.sizes["t"] == 5
    # the same file by another name
    again: list[str | Path] = [*arguments, "--resume", tmp_path / ".." / tmp_path.name / "s.nc", "--overwrite"]
    assert call(*again, "--refine", "2").exit_code == 0
    assert PhaseScan.load(tmp_path / "s.nc").dataset.identical(first)
    fails("lose its level t = 0.7", *again)
    assert call(*again, "--refine", "1").exit_code == 0  # another level than either of those
    last = PhaseScan.load(tmp_path / "s.nc")
    assert last.complete
    assert set(first.t.values) <= set(last.dataset.t.values)
    assert last.dataset.sel(t=first.t).drop_attrs().identical(first.drop_attrs())


SIZES = ["run", "digits", *FAST, "--sizes", "5,7"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_of_several_sizes_every_finished_level_is_kept(
    error: type[BaseException], tmp_path: Path, cut: Cut
) -> None:
    """Cut short in the second size: both are kept, under one name, and going on gives what one run gives."""
    straight, out = tmp_path / "straight.nc", tmp_path / "s.nc"
    assert call(*SIZES, "--out", straight).exit_code == 0
    (tmp_path / "s.partial.L7.nc").write_text("mine")
    cut(5, error)
    result = call(*SIZES, "--out", out)
    assert result.exit_code == (130 if error is KeyboardInterrupt else 1)
    assert "5 of 6 levels finished, kept in" in result.stderr
    assert "--resume" in result.stderr
    assert (tmp_path / "s.partial.L7.nc").read_text() == "mine"
    assert not list(tmp_path.glob("s.L*.nc"))
    kept = [PhaseScan.load(tmp_path / f"s.partial1.L{size}.nc") for size in (5, 7)]
    assert [int(scan.dataset.finished.sum()) for scan in kept] == [3, 2]
    done = cut(99)
    resumed = call(*SIZES, "--out", out, "--resume", tmp_path / "s.partial1.nc")
    assert resumed.exit_code == 0, resumed.stderr
    assert len(done) == 1
    for size in (5, 7):
        assert (tmp_path / f"s.L{size}.nc").read_bytes() == (tmp_path / f"straight.L{size}.nc").read_bytes()


def test_levels_that_were_added_are_not_computed_twice(cut: Cut) -> None:
    """Interrupted while levels are refined: the added ones are taken over as well."""
    data = open_dataset("exact:chain?L=15&n=1000")
    whole = phase_scan(data, levels=[0.4, 0.6, 0.8], refine=4)
    cut(5)
    with pytest.raises(ScanInterrupted) as caught:
        phase_scan(data, levels=[0.4, 0.6, 0.8], refine=4)
    assert int(caught.value.partial.dataset.finished.sum()) == 5
    done = cut(99)
    again = phase_scan(data, levels=[0.4, 0.6, 0.8], refine=4, resume=caught.value.partial)
    assert len(done) == 2
    assert again.dataset.identical(whole.dataset)


def test_what_cannot_be_resumed_by_sizes(tmp_path: Path) -> None:
    out = tmp_path / "s.nc"
    fails("there is no scan .*s.L5.nc to resume, nor one of another size", *SIZES, "--resume", out)
    assert call(*SIZES, "--out", out).exit_code == 0
    fails("the scan to resume differs in seed", *SIZES, "--resume", out, "--seed", "1")
    assert call(*SIZES, "--out", tmp_path / "o.nc", "--seed", "1").exit_code == 0
    (tmp_path / "o.L5.nc").unlink()
    (tmp_path / "s.L5.nc").rename(tmp_path / "o.L5.nc")  # the second one is of another seed
    fails("the scan to resume differs in seed: 1 there, 0 here", *SIZES, "--resume", tmp_path / "o.nc")
    (tmp_path / "o.L5.nc").rename(tmp_path / "s.L5.nc")
    fails("lose its level t = 0.3", *SIZES, "--resume", out, "--out", out, "--overwrite", "--levels", "0.9")
    more = call(*SIZES[:-1], "5,7,8", "--resume", out, "--out", tmp_path / "more.nc")
    assert more.exit_code == 0, more.stderr
    scans = {5.0: PhaseScan.load(tmp_path / "s.L5.nc")}
    with pytest.raises(ValueError, match=r"a scan of size 5 to resume, which is none of the sizes \[7\]"):
        scan_sizes(open_dataset("digits", limit=300), [7], levels=[0.3], resume=scans)
