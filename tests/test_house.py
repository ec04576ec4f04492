"""The house: which way imports run, what the documents say, and that they are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import cmi
import estimators

# From the ground up: a module may import those before it, never those after.
FLOW = [
    "checks",
    "output",
    "netcdf",
    "figures",
    "largest_z",
    "regions",
    "noise",
    "fidelity",
    "testing",
    "exact",
    "samples",
    "data",
    "methods",
    "estimate",
    "forms",
    "decay_fit",
    "markov_length",
    "finite_size",
    "transition",
    "configuration",
    "result",
    "truth",
    "scan",
    "sizes",
    "position_map",
    "position_scan",
    "scan_check",
    "known_cells",
    "self_check",
    "denoise",
    "plot",
    "size_plot",
    "position_plot",
    "report",
    "position_report",
    "workers",
    "flags",
    "screen",
    "scan_files",
    "scan_run",
    "position_run",
    "denoise_commands",
    "cli",
]
SOURCES = sorted([*(ROOT / "cmi").rglob("*.py"), *(ROOT / "estimators").rglob("*.py")])
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it, those for type checking only left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_estimators_know_arrays_only() -> None:
    for path in (ROOT / "estimators").rglob("*.py"):
        outside = {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert outside <= {
            "estimators",
            "numpy",
            "scipy",
            "sklearn",
            "numba",
            "llvmlite",
            "threadpoolctl",
            "torch",
        }, path


def test_one_place_where_cmi_meets_estimators() -> None:
    meeting = {
        path.name for path in (ROOT / "cmi").rglob("*.py") if any(n.startswith("estimators") for n in imports(path))
    }
    assert meeting == {"methods.py", "trainer.py"}  # the second one imports the first, which looks whose they are


def test_no_import_runs_against_the_flow() -> None:
    modules = {path.relative_to(ROOT / "cmi").parts[0].removesuffix(".py") for path in (ROOT / "cmi").rglob("*.py")}
    assert modules == {*FLOW, "__init__"}, "a new module takes its place in FLOW"
    for path in (ROOT / "cmi").rglob("*.py"):
        home = path.relative_to(ROOT / "cmi").parts[0].removesuffix(".py")
        if home == "__init__":
            continue
        for name in imports(path):
            if name == "cmi" or not name.startswith("cmi."):
                assert name != "cmi", f"{path} imports the public names instead of their home"
                continue
            used = name.split(".")[1]
            if (home, used) in (("result", "plot"), ("position_map", "position_plot")):
                continue  # a shortcut, which imports when it is called
            assert used == home or FLOW.index(used) < FLOW.index(home), f"{path} imports {name}"


def test_a_foreign_estimators_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "estimators").mkdir()
    (tmp_path / "estimators" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "from cmi import estimate_cmi"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the name 'estimators' leads to")
    assert str(tmp_path) in last


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says what it holds"
    assert doctest.testmod(module).failed == 0


def test_public_names() -> None:
    for name in cmi.__all__:
        assert getattr(cmi, name).__doc__
    assert set(cmi.__all__) <= set(dir(cmi))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cmi.nothing
    for name in estimators.__all__:
        assert getattr(estimators, name).__doc__


def test_public_calls_have_examples() -> None:
    for package in (cmi, estimators):
        for name in package.__all__:
            thing = getattr(package, name)
            if callable(thing) and not isinstance(thing, type):
                assert ">>>" in (thing.__doc__ or ""), f"{name} has an example"


README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_ci_calls_the_two_commands_of_the_readme() -> None:
    commands = [block.strip() for block in fenced("sh")[:2]]
    script = (ROOT / ".ci" / "run").read_text()
    for command in commands:
        assert command in script
    assert commands[1].endswith("pytest")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_the_pages_runs(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    assert blocks or page.name not in ("README.md", "denoisers.md", "methods.md")
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})  # noqa: S102


def test_readme_names_every_command_and_option() -> None:
    import typer

    from cmi.cli import app

    command = typer.main.get_command(app)
    named = dict(command.commands)  # type: ignore[attr-defined]
    named |= {f"denoise {name}": sub for name, sub in named.pop("denoise").commands.items()}
    for name, sub in named.items():
        assert f"phase-scan {name}" in README, name
        for parameter in sub.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help",):
                    assert option in README, f"{name} {option}"


def test_versions_agree() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"', project, re.MULTILINE)
    assert version
    assert f'version: "{version[1]}"' in (ROOT / "CITATION.cff").read_text()
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_lead_to_is_there(page: Path) -> None:
    """Pictures, files and headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], target
    for benchmark in re.findall(r"benchmarks/(\w+\.py)", PAGES[page]):
        assert (ROOT / "benchmarks" / benchmark).is_file(), benchmark


def test_every_package_is_installed() -> None:
    """A folder with modules is named in pyproject.toml: a checkout works without, a wheel does not."""
    import tomllib

    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("cmi", "estimators")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(named) == found


def test_no_module_hides_a_public_name() -> None:
    """A submodule that has been imported would stand in the place of a function of the same name."""
    modules = {path.stem for path in (ROOT / "cmi").iterdir()}
    assert not modules & set(cmi.__all__)
