"""What must be known before a classroom's server may start; whatever is unsafe is refused here.

Everything comes from variables whose names begin with MBM_HUB_. The two secrets may stand in a file
instead, which nobody else may read.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mbm_lab import place

PREFIX = "mbm-"  # of learners' Unix users, so that none is another user of the computer
ROOM_CODE, PASSWORD = "MBM_HUB_CODE", "MBM_HUB_PASSWORD"
SHORTEST_CODE, SHORTEST_PASSWORD = 6, 8

NOT_ROOT = (
    "Everyone's files belong to one Unix user, because this was not started as root: each learner "
    "has a folder, but kernels of one Unix user can read each other's files. This is for a "
    "rehearsal, on this computer only."
)


@dataclass(frozen=True)
class Settings:
    """A classroom's server: where it is reached, where it keeps things, how much each may use.

    memory: bytes a learner; kernels: notebooks that run at once, a learner; idle: seconds after
    which an unused kernel ends, and a server without kernels in use.
    """

    code: str = field(repr=False)
    password: str = field(repr=False)
    address: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    folder: Path = Path("/var/lib/mbm-hub")
    memory: int = 2_000_000_000
    kernels: int = 3
    idle: int = 3600
    root: bool = True

    @property
    def homes(self) -> Path:
        """The folder of the learners' folders."""
        return self.folder / "homes"

    @property
    def private(self) -> Path:
        """The folder of what only the server may read: passwords (hashed), cookies, logs."""
        return self.folder / "private"

    @property
    def shared(self) -> Path:
        """The folder of what every learner's server reads: JupyterLab's settings."""
        return self.folder / "shared"

    @property
    def url(self) -> str:
        """The address to type into a browser."""
        scheme = "https" if self.certificate else "http"
        host = socket.gethostname() if self.address == "0.0.0.0" else self.address
        return f"{scheme}://{host}:{self.port}"


def read(environ: Mapping[str, str] = os.environ, root: bool | None = None) -> Settings:
    """The settings that these variables give; root: whether learners get Unix users of their own.

    Raises ValueError with one sentence when a secret is missing or too short, when another address
    than the loopback is asked for without a certificate or without root, and when a number or a
    file is not what it should be.
    """
    root = os.geteuid() == 0 if root is None else root
    where = folder(environ, root)
    if where.is_relative_to(place.COURSE):
        raise ValueError(
            f"The learners' folders cannot lie in the course ({where}), which they only read: let "
            "MBM_HUB_FOLDER name a folder elsewhere."
        )
    code, password = _secrets(environ, where)
    certificate, key = (_file(environ, f"MBM_HUB_{name}") for name in ("CERTIFICATE", "KEY"))
    if (certificate is None) != (key is None):
        raise ValueError(
            "HTTPS needs both: let MBM_HUB_CERTIFICATE and MBM_HUB_KEY each name a file."
        )
    settings = Settings(
        code=code,
        password=password,
        address=environ.get("MBM_HUB_ADDRESS") or Settings.address,
        port=_number(environ, "MBM_HUB_PORT", Settings.port, 1, 65535),
        certificate=certificate,
        key=key,
        folder=where,
        memory=_number(environ, "MBM_HUB_MEMORY_MB", Settings.memory // 10**6, 300, 10**6) * 10**6,
        kernels=_number(environ, "MBM_HUB_KERNELS", Settings.kernels, 1, 100),
        idle=_number(environ, "MBM_HUB_IDLE_MINUTES", Settings.idle // 60, 1, 10**5) * 60,
        root=root,
    )
    _check_address(settings)
    return settings


def folder(environ: Mapping[str, str] = os.environ, root: bool | None = None) -> Path:
    """The folder in which the server keeps everything: MBM_HUB_FOLDER, or the usual one."""
    root = os.geteuid() == 0 if root is None else root
    standard = "/var/lib/mbm-hub" if root else "~/.local/share/mbm-hub"
    return Path(environ.get("MBM_HUB_FOLDER") or standard).expanduser().absolute()


def _secrets(environ: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """The room's code and the instructor's password: from the variables, or from the file."""
    file = Path(environ.get("MBM_HUB_SECRETS") or folder / "secrets")
    known = _secrets_file(file) if file.is_file() else {}
    known |= {name: environ[name] for name in (ROOM_CODE, PASSWORD) if environ.get(name)}
    code, password = (known.get(name, "").strip() for name in (ROOM_CODE, PASSWORD))
    missing = [name for name, value in ((ROOM_CODE, code), (PASSWORD, password)) if not value]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be set before anyone may sign in: set {ROOM_CODE} (the "
            f"room's code, for signing up) and {PASSWORD} (the instructor's password) in the "
            f"environment, or write both as NAME=value lines into {file} and `chmod 600` it."
        )
    if len(code) < SHORTEST_CODE:
        raise ValueError(
            f"The room's code ({ROOM_CODE}) needs {SHORTEST_CODE} characters or more: choose a "
            "longer one."
        )
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(
            f"The instructor's password ({PASSWORD}) needs {SHORTEST_PASSWORD} characters or more: "
            "choose a longer one."
        )
    return code, password


def _secrets_file(file: Path) -> dict[str, str]:
    """The NAME=value lines of a file that nobody else may read."""
    if file.stat().st_mode & 0o077:
        raise ValueError(f"Others may read {file}, which holds passwords: `chmod 600 {file}`.")
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    """The file that a variable names; None if it names none."""
    if not environ.get(name):
        return None
    file = Path(environ[name]).expanduser().absolute()
    if not file.is_file():
        raise ValueError(f"{name} names {file}, which is not there: name a file.")
    return file


def _number(environ: Mapping[str, str], name: str, standard: int, least: int, most: int) -> int:
    """The whole number that a variable gives."""
    text = environ.get(name) or str(standard)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ValueError(f"{name} is {text!r}: set it to a whole number from {least} to {most}.")
    return int(text)


def _check_address(settings: Settings) -> None:
    """Only this computer may connect without HTTPS, or to a server that is not root's."""
    if ":" in settings.address:
        raise ValueError(
            f"The hub serves IPv4 addresses only, such as 127.0.0.1, not {settings.address}: let "
            "MBM_HUB_ADDRESS name one."
        )
    if is_loopback(settings.address):
        return
    if not settings.root:
        raise ValueError(
            f"The address {settings.address} opens the server to other computers, and that needs "
            "root, so that each learner is a Unix user, for kernels of one Unix user can read each "
            "other's files: start the hub with `sudo`."
        )
    if settings.certificate is None:
        raise ValueError(
            f"The address {settings.address} opens the server to other computers, and passwords "
            "would travel in the open: make a certificate with `python -m workshop.certificate "
            "ADDRESS`, or name yours in MBM_HUB_CERTIFICATE and MBM_HUB_KEY."
        )


def is_loopback(address: str) -> bool:
    """Whether only this computer reaches an address; a name counts only if it is localhost."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
