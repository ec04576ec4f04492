"""Other packages' k-nearest-neighbour CMI, a small function for each, and the process that times one of them.

`benchmarks/knn.py` starts ``python benchmarks/peers.py NAME DATA SIZES K THREADS [JAR]`` for every peer and cell.
What a peer adds to the data (noise) or makes of them (ranks, unit variance) by default is switched off here, so
that all compute the sum of Frenzel and Pompe of the same numbers; where one cannot, `formula` is what it computes.

Left out: frites (Gaussian copula, bins), causal-learn (no k-nearest-neighbour CMI), scikit-learn and nn-info (MI
only, clipped at 0), tefs and infopy-estimators (I(AB:C) - I(B:C), two estimates of MI with a radius each).
"""

from __future__ import annotations

import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

OURS = "phase-scan"
CHECKED = 1000  # samples of the warm-up, whose value is compared with the definition
REPEATS, ENOUGH = 5, 10.0  # timed calls, and the seconds after which there is no other


@dataclass(frozen=True)
class Job:
    """Samples with the columns A, B, C, and how to estimate."""

    x: FloatArray
    sizes: tuple[int, int, int]
    k: int
    threads: int
    jar: str = ""

    def parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A, B and C in memory of their own."""
        cuts = np.cumsum(self.sizes)[:2]
        a, b, c = (np.ascontiguousarray(part) for part in np.split(self.x, cuts, axis=1))
        return a, b, c


Call = Callable[[], Any]


@dataclass(frozen=True)
class Counts:
    """Neighbours of every sample nearer than its k-th in the joint space, and not farther, in B, AB and BC."""

    k: int
    strict: IntArray
    within: IntArray


def count(x: FloatArray, sizes: tuple[int, int, int], k: int) -> Counts:
    """Count by the definition, from all distances: for a few samples."""
    a, ab = sizes[0], sizes[0] + sizes[1]

    def distances(columns: slice) -> FloatArray:
        far = np.zeros((len(x), len(x)))
        for column in x.T[columns]:
            np.maximum(far, np.abs(column[:, None] - column[None, :]), out=far)
        np.fill_diagonal(far, np.inf)
        return far

    radius = np.partition(distances(slice(None)), k - 1, axis=1)[:, k - 1, None]
    spaces = [distances(columns) for columns in (slice(a, ab), slice(ab), slice(a, None))]
    return Counts(
        k,
        np.array([(far < radius).sum(axis=1) for far in spaces]),
        np.array([(far <= radius).sum(axis=1) for far in spaces]),
    )


def frenzel_pompe(counts: Counts, psi: Callable[[Any], Any] = digamma) -> float:
    """psi(k) + <psi(n_B + 1) - psi(n_AB + 1) - psi(n_BC + 1)>, the neighbours counted strictly."""
    given, with_a, with_c = psi(counts.strict + 1)
    return float(psi(counts.k) + np.mean(given - with_a - with_c))


def closed(counts: Counts) -> float:
    """The same with the neighbours at the radius counted too."""
    given, with_a, with_c = digamma(counts.within + 1)
    return float(digamma(counts.k) + np.mean(given - with_a - with_c))


def ours(job: Job) -> Call:
    """Ours."""
    ksg_profile = import_module("estimators").ksg_profile
    options = {"k": job.k, "ties": "continuous", "surrogates": 0, "threads": job.threads}
    return lambda: ksg_profile(job.x, job.sizes, **options).value[0]


def npeet(job: Job) -> Call:
    """npeet-plus: scikit-learn's k-d tree, ball tree from 20 columns."""
    module: Any = import_module("npeet_plus.estimators")
    module.add_noise = lambda x: x  # else 1e-10, unseeded
    a, b, c = job.parts()
    return lambda: module.mi(a, c, b, k=job.k, base=np.e)


def tigramite(job: Job) -> Call:
    """Tigramite's CMIknn, the estimate without the test: scipy's k-d tree."""

    class Silent:
        """Stands in for the generator of the noise, 1e-6 of the standard deviation, that is always added."""

        def random(self, shape: tuple[int, ...]) -> FloatArray:
            return np.zeros(shape)

    test = import_module("tigramite.independence_tests.cmiknn").CMIknn(
        knn=job.k, transform=False, workers=job.threads
    )
    test.random_state = Silent()
    a, b, c = job.parts()
    rows = np.ascontiguousarray(np.hstack([a, c, b]).T)
    which = np.repeat([0, 1, 2], [a.shape[1], c.shape[1], b.shape[1]])
    return lambda: test.get_dependence_measure(rows, which)


def ennemi(job: Job) -> Call:
    """Ennemi: scipy's k-d tree. Its public call takes one column for C; for more there is the function inside."""
    a, b, c = job.parts()
    if a.shape[1] == c.shape[1] == 1:
        estimate = import_module("ennemi").estimate_mi
        options = {"k": job.k, "cond": b, "preprocess": False, "max_threads": job.threads}
        return lambda: estimate(c[:, 0], a[:, 0], **options).item()
    inside = import_module("ennemi._entropy_estimators")
    return lambda: inside._estimate_conditional_mi(a, c, b, job.k)


def ennemis_series(counts: Counts) -> float:
    """Frenzel-Pompe with ennemi's own digamma."""
    return frenzel_pompe(counts, import_module("ennemi._entropy_estimators")._psi)


def infomeasure(job: Job) -> Call:
    """Infomeasure: scipy's k-d tree."""
    module = import_module("infomeasure")
    a, b, c = job.parts()
    return lambda: module.cmi(a, c, cond=b, approach="ksg", k=job.k, noise_level=0, base="e")


def pycit(job: Job) -> Call:
    """Pycit: scikit-learn's NearestNeighbors, lists of neighbours instead of counts."""
    module = import_module("pycit.estimators.ksg_cmi")
    a, b, c = job.parts()
    return lambda: module.ksg_cmi(a, c, b, k=job.k)


def dit(job: Job) -> Call:
    """Dit: total correlation of A and C given B, scikit-learn's k-d tree."""
    module = import_module("dit.inference.knn_estimators")
    a, ab, all_of_them = np.cumsum(job.sizes).tolist()
    options = {"rvs": [list(range(a)), list(range(ab, all_of_them))], "crvs": list(range(a, ab))}
    return lambda: np.log(2.0) * module.total_correlation_ksg(job.x, **options, k=job.k, noise=0.0)


def jidt(job: Job) -> Call:
    """JIDT, in Java: k-d trees of its own; AB and BC are searched among the neighbours in B."""
    jpype = import_module("jpype")
    if not jpype.isJVMStarted():
        jpype.startJVM(f"-XX:ActiveProcessorCount={job.threads}", classpath=[job.jar])
    kraskov = jpype.JPackage("infodynamics.measures.continuous.kraskov")
    calculator = kraskov.ConditionalMutualInfoCalculatorMultiVariateKraskov1()
    options = {"k": job.k, "NUM_THREADS": job.threads, "NORMALISE": "false", "NOISE_LEVEL_TO_ADD": 0}
    for name, value in options.items():
        calculator.setProperty(name, str(value))
    a, b, c = (jpype.JArray(jpype.JDouble, 2)(part) for part in job.parts())

    def call() -> Any:
        calculator.initialise(job.sizes[0], job.sizes[2], job.sizes[1])  # forgets the trees of the last call
        calculator.setObservations(a, c, b)
        return calculator.computeAverageLocalOfObservations()

    return call


def _exact(_: int) -> float:
    return 1e-10


@dataclass(frozen=True)
class Peer:
    """A package by name.

    `modules` are those without which it is missing; `tolerance` is how far it may be from ours on n samples, None
    where it computes something else.
    """

    name: str
    adapter: Callable[[Job], Call]
    distribution: str
    modules: tuple[str, ...]
    parallel: bool = False
    remark: str = "Frenzel-Pompe"
    formula: Callable[[Counts], float] = frenzel_pompe
    tolerance: Callable[[int], float] | None = _exact

    def missing(self, jar: str) -> str:
        """Why it cannot run, or nothing."""
        for module in self.modules:
            if find_spec(module) is None:
                return f"missing: no module {module}"
        return "missing: no jar given, see --jidt" if self.adapter is jidt and not jar else ""

    def version(self, jar: str) -> str:
        """The version that is installed; JIDT's jar knows none, only its date."""
        if self.adapter is jidt and jar:
            year, month, day = zipfile.ZipFile(jar).infolist()[0].date_time[:3]
            return f"jar of {year}-{month:02}-{day:02}"
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return "?"


PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, ours, "phase-scan", (), parallel=True),
        # its digamma function is off by 6.5e-8 below an argument of some thousands, and by nothing above
        Peer("JIDT", jidt, "jpype1", ("jpype",), parallel=True, tolerance=lambda _: 7e-8),
        Peer(
            "tigramite",
            tigramite,
            "tigramite",
            ("tigramite",),
            parallel=True,
            remark="Frenzel-Pompe, the radius 1e-9 of it short: a sample in that gap moves the mean by up to 1/n",
            tolerance=lambda n: 1.0 / n,
        ),
        Peer("npeet-plus", npeet, "npeet-plus", ("npeet_plus",)),
        Peer(
            "pycit",
            pycit,
            "pycit",
            ("pycit",),
            remark="Frenzel-Pompe; above 15 columns scikit-learn, left to choose, takes brute force, and fails",
        ),
        Peer(
            "ennemi",
            ennemi,
            "ennemi",
            ("ennemi",),
            remark="Frenzel-Pompe with a digamma of its own, off by up to 2e-5",
            formula=ennemis_series,
            tolerance=lambda _: 6e-5,
        ),
        Peer("infomeasure", infomeasure, "infomeasure", ("infomeasure",)),
        Peer(
            "dit",
            dit,
            "dit",
            ("dit",),
            remark="another estimate: the neighbours at the radius count too, and it comes out far too low",
            formula=closed,
            tolerance=None,
        ),
    )
}


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process in MiB; elsewhere than on Linux the peak so far for both."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        resource = import_module("resource")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 2**10


def forget_peak() -> None:
    """Let VmHWM begin anew, so that it is that of the calls and not of imports."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main() -> None:
    """Run one peer; a line of JSON for the warm-up and for every timed call."""
    name, data, sizes, k, threads, *jar = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # whatever a peer thinks of, it gets no more cores than the others
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)  # what a peer prints is none of the answer

        def say(**event: object) -> None:
            print(json.dumps(event), file=channel, flush=True)

        x = np.load(data)
        a, b, c = map(int, sizes.split(","))
        adapter = PEERS[name].adapter
        try:
            small = Job(np.ascontiguousarray(x[:CHECKED]), (a, b, c), int(k), int(threads), *jar)
            say(checked=float(adapter(small)()))
            call = adapter(Job(x, (a, b, c), int(k), int(threads), *jar))
            forget_peak()
            before = memory("VmRSS")
            spent: list[float] = []
            while not spent or (len(spent) < REPEATS and sum(spent) < ENOUGH):
                busy, start = time.process_time(), time.perf_counter()
                value = float(call())
                spent.append(time.perf_counter() - start)
                cores = (time.process_time() - busy) / spent[-1]
                peak = memory("VmHWM")
                say(value=value, seconds=spent[-1], cores=cores, peak=peak, added=max(peak - before, 0.0))
        except Exception as error:  # noqa: BLE001 - what went wrong inside a peer is part of the result
            say(failed=f"{type(error).__name__}: {error}".strip(": ").splitlines()[0])


if __name__ == "__main__":
    main()
