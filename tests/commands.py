"""Phase-scan as a process of its own or in this one, for the tests of the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from cmi.cli import app

FAST = ["--levels", "0.3:0.9:3", "--limit", "300"]


def program(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run phase-scan as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cmi.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )


def call(*arguments: str | Path) -> Result:
    """Run phase-scan in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def fails(message: str, *arguments: str | Path, code: int = 1, kept: bool = False) -> None:
    """Expect one line on stderr that matches the message, an exit code, and nothing on stdout.

    Before it another line may say what was kept of the work.
    """
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert re.search(message, result.stderr), result.stderr
    if code == 1:
        *before, line = result.stderr.splitlines()
        assert line.startswith("Error: ")
        assert len(before) == kept
        assert result.stdout == ""
