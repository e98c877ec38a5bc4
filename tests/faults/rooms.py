"""Full disks for what an instructor writes: views, a stick, a certificate, accounts."""

import contextlib
import importlib.util
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from tests.faults import Fault, Said
from tests.faults.disks import Writer, full_disks


def _run(main: Callable[[list[str]], int], *arguments: str) -> None:
    """Runs a program of the workshop; raises Said with its last line when it fails."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = main(list(arguments))
    if code:
        raise Said(f"mbm-lab: {errors.getvalue().strip().splitlines()[-1]}")


def _views(folder: Path) -> None:
    from workshop import views

    def write(notebooks: list[Path], to: Path) -> None:
        to.mkdir(parents=True)
        (to / "page.html").write_text("a page\n" * 50)

    with (
        mock.patch.object(views, "VIEWS", {"slides": write}),
        mock.patch.object(views, "index", return_value="<html>" * 50),
    ):
        _run(views.main, str(folder / "built"))


def _stick(folder: Path) -> None:
    from workshop import stick

    def write(to: str, *_: object) -> Path:
        made = stick.prepare(Path(to))
        stick.write_contents(made, {})
        return made

    with mock.patch.object(stick, "write", write):
        _run(stick.main, str(folder / "stick"))


def _certificate(folder: Path) -> None:
    from workshop import certificate

    certificate.make(["classroom.local"], folder / "https")


def _account(folder: Path) -> None:
    from workshop import accounts

    with mock.patch.object(accounts, "SCRYPT", {"n": 2, "r": 1, "p": 1}):
        known = accounts.Accounts(folder / "accounts.json", has_files=lambda name: False)
        known.claim("eva", "a long password")


BUILT = {"built/.made-by-make-workshop": b"", "built/slides/page.html": b"an older one"}
WRITERS = [
    Writer("make workshop", _views, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (0, 100), old=BUILT),
    Writer("make stick", _stick, (1, 2, 3, 5), (0, 100), own=("stick/.*",)),
    Writer("a certificate", _certificate, (1, 2, 3, 4, 5), (0, 100)),
    Writer("an account", _account, (1, 2), (0, 20)),
]  # fmt: skip


def faults(seed: int) -> Iterator[Fault]:
    if os.name == "posix" and importlib.util.find_spec("cryptography"):  # which `make hub` needs
        for one in WRITERS:
            yield from full_disks(one)
