"""Who may sign in to a classroom's server: learners with a password of their own, and no one else.

A learner signs up once, with a name, a password that they choose, and the room's code. From then on
the name needs that password. Passwords are stored hashed (scrypt; Percival, 2009) in one file that
only the server's owner can read. `python -m workshop.accounts NAME` gives a learner who forgot
theirs a new one; with `--remove`, learners are forgotten, and their files put aside.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from jupyterhub.auth import Authenticator
from tornado import web

from mbm_lab import atomic
from workshop import hub_settings, seats

INSTRUCTOR = "instructor"

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME, LONGEST_PASSWORD = 20, 200
RESERVED = {"admin", "administrator", "root", "hub", "jupyter", "jupyterhub", "nobody", "system"}

SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and about 50 ms a try

LOGIN_PAGE = Path(__file__).with_name("login.html")


def check_name(name: str) -> None:
    """Raises ValueError with one sentence if nobody can have this name."""
    if not NAME.fullmatch(name) or not 2 <= len(name) <= LONGEST_NAME:
        raise ValueError(
            f"A name has 2 to {LONGEST_NAME} small letters a to z, digits, and single hyphens in "
            "between, and begins with a letter: choose one such as ann or ann-b."
        )
    if name in RESERVED or name == INSTRUCTOR:
        raise ValueError("This name is reserved: choose another one.")


def check_password(password: str) -> None:
    """Raises ValueError with one sentence if this cannot be a password."""
    if not hub_settings.SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ValueError(
            f"A password has {hub_settings.SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters: "
            "choose a longer one."
            if len(password) <= LONGEST_PASSWORD
            else f"A password has at most {LONGEST_PASSWORD} characters: choose a shorter one."
        )


def unix_user_exists(name: str) -> bool:
    """Whether a learner of this name has, or once had, a Unix user and so perhaps files."""
    try:
        pwd.getpwnam(hub_settings.PREFIX + name)
    except KeyError:
        return False
    return True


class Accounts:
    """The learners' names and hashed passwords, in a file; each change is written whole.

    has_files: whether a name that is not in the file has files from before, and so is taken.
    """

    def __init__(self, file: Path, has_files: Callable[[str], bool] = unix_user_exists) -> None:
        self.file = file
        self.has_files = has_files
        self.lock = threading.Lock()

    def known(self) -> dict[str, dict[str, str]]:
        """{name: {"salt": hex, "hash": hex}}; raises ValueError when the file is damaged."""
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise ValueError(
                f"{self.file} is damaged, so nobody can sign in: repair it, or move it away and "
                "let everyone sign up again."
            )
        return known

    def claim(self, name: str, password: str) -> None:
        """Makes an account; raises ValueError if the name is taken or cannot be had."""
        check_name(name)
        check_password(password)
        entry = _hashed(password)
        with self.lock:
            known = self.known()
            if name in known or self.has_files(name):
                raise ValueError("This name is taken: choose another one, or ask the instructor.")
            self._write(known | {name: entry})

    def has(self, name: str, password: str) -> bool:
        """Whether this is the password of this name; False, too, if nobody has the name."""
        entry = self.known().get(name)
        return entry is not None and hmac.compare_digest(
            _hash(password, entry["salt"]), entry["hash"]
        )

    def change(self, name: str, password: str) -> None:
        """Gives a known name another password; raises ValueError if the name is not known."""
        check_password(password)
        entry = _hashed(password)
        with self.lock:
            known = self.known()
            if name not in known:
                raise ValueError(f"Nobody is called {name}: name one of {_listed(known)}.")
            self._write(known | {name: entry})

    def remove(self, name: str) -> None:
        """Forgets a name; raises ValueError if it is not known."""
        with self.lock:
            known = self.known()
            if name not in known:
                raise ValueError(f"Nobody is called {name}: name one of {_listed(known)}.")
            del known[name]
            self._write(known)

    def _write(self, known: dict[str, dict[str, str]]) -> None:
        """Writes the file, which only its owner may read."""
        text = json.dumps(known, indent=1, sort_keys=True) + "\n"

        def write(part: Path) -> None:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(text)

        atomic.write_whole(self.file, write)


def _hashed(password: str) -> dict[str, str]:
    """A password as it is stored: with a salt of its own."""
    salt = secrets.token_hex(16)
    return {"salt": salt, "hash": _hash(password, salt)}


def _hash(password: str, salt: str) -> str:
    """What scrypt makes of a password, in hexadecimal digits."""
    raw = password[: LONGEST_PASSWORD + 1].encode("utf-8", "surrogatepass")
    return hashlib.scrypt(raw, salt=bytes.fromhex(salt), **SCRYPT).hex()


class Tries:
    """Counts wrong tries of each key, so that nobody can guess on and on: `most` in `seconds`."""

    def __init__(
        self, most: int, seconds: float = 300, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self.wrong = defaultdict(deque)

    def spent(self, key: str) -> bool:
        """Whether this key has no try left for now."""
        times = self.wrong[key]
        while times and times[0] <= self.clock() - self.seconds:
            times.popleft()
        if not times:
            del self.wrong[key]
        return len(times) >= self.most

    def count(self, key: str) -> None:
        """Counts one wrong try."""
        self.wrong[key].append(self.clock())


class Door:
    """Decides who comes in: one question, `enter`, answered with a name or with a ValueError.

    One at a time: who asks many times at once only waits. A name has ten tries from one address, so
    that nobody can lock others out; a room may share one address, which has a hundred.
    """

    def __init__(self, accounts: Accounts, code: str, password: str) -> None:
        self.accounts, self.code, self.password = accounts, code, password
        self.here, self.anywhere, self.lock = Tries(10), Tries(100), threading.Lock()

    def enter(self, name: str, password: str, code: str, address: str) -> str:
        """The name of who comes in, in small letters; raises ValueError with one sentence.

        address: where the browser is, to slow down who guesses. A known name needs its password,
        a new one the room's code. The instructor's name needs the instructor's password.
        """
        with self.lock:
            return self._enter(name.strip().lower(), password, code, address)

    def _enter(self, name: str, password: str, code: str, address: str) -> str:
        """The same, one at a time."""
        known = name == INSTRUCTOR or name in self.accounts.known()
        door = name if known else "the room's code"
        keys = (self.anywhere, door), (self.anywhere, address)
        if known:
            keys += ((self.here, f"{door} from {address}"),)
        if any(tries.spent(key) for tries, key in keys):
            raise ValueError("Too many wrong tries: wait five minutes, or ask the instructor.")
        if not known:
            return self._sign_up(name, password, code, keys)
        if name == INSTRUCTOR:
            right = hmac.compare_digest(password.encode(), self.password.encode())
        else:
            right = self.accounts.has(name, password)
        if not right:
            _count(keys)
            raise ValueError(
                "This is not the password of this name: type it again. If the name is new to you, "
                "somebody else has it: choose another."
            )
        return name

    def _sign_up(self, name: str, password: str, code: str, keys: tuple) -> str:
        """Makes an account for who knows the room's code."""
        typed, right = code.strip().casefold().encode(), self.code.casefold().encode()
        if not typed:
            raise ValueError(
                "Nobody has this name yet. To sign up with it, type the room's code, too; if you "
                "have signed up before, look whether the name is spelt as then."
            )
        if not hmac.compare_digest(typed, right):
            _count(keys)
            raise ValueError("This is not the room's code: ask the instructor for it.")
        self.accounts.claim(name, password)
        return name


def _count(keys: tuple[tuple[Tries, str], ...]) -> None:
    """Counts a wrong try of each of these."""
    for tries, key in keys:
        tries.count(key)


class RoomAuthenticator(Authenticator):
    """Lets learners sign up and sign in on one page; what is wrong is said above the form."""

    door: Door  # who decides; set before the hub starts

    def get_custom_html(self, base_url: str) -> str:
        """The form of the login page."""
        return LOGIN_PAGE.read_text(encoding="utf-8")

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, str]) -> str:
        """The name of who signs in; raises HTTPError 403, with a sentence for the page."""
        typed = [data.get(field, "") for field in ("username", "password", "code")]
        try:
            return await asyncio.to_thread(self.door.enter, *typed, handler.request.remote_ip)
        except ValueError as error:
            raise web.HTTPError(403, "%s", str(error), reason="Not signed in") from None


def main(arguments: list[str] | None = None) -> int:
    """Gives a learner a new password, which is asked for twice, or forgets learners."""
    parser = argparse.ArgumentParser(prog="python -m workshop.accounts", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="who gets a new password")
    parser.add_argument(
        "--remove", action="store_true", help="forget these learners; their files are kept"
    )
    options = parser.parse_args(arguments)
    folder = hub_settings.folder()
    accounts = Accounts(folder / "private" / "accounts.json")
    try:
        for name in options.names:
            if options.remove:
                print(_forget(accounts, name, folder))
            else:
                print(_renew(accounts, name))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names)) or "(there is none yet)"


def _renew(accounts: Accounts, name: str) -> str:
    """Asks for a new password of a learner."""
    if name not in (known := accounts.known()):
        raise ValueError(f"Nobody is called {name}: name one of {_listed(known)}.")
    password = getpass.getpass(f"New password of {name}: ")
    if getpass.getpass("The same again: ") != password:
        raise ValueError("These were two different passwords, so nothing was changed: try again.")
    accounts.change(name, password)
    return f"{name} signs in with the new password from now on."


def _forget(accounts: Accounts, name: str, folder: Path) -> str:
    """Removes a learner's account and Unix user, and puts their files aside."""
    accounts.remove(name)
    if os.geteuid() == 0:
        seats.remove_unix_user(name)
    aside = folder / "removed" / f"{name} {datetime.now():%Y-%m-%d %H.%M.%S}"
    aside.parent.mkdir(mode=0o700, exist_ok=True)
    home = folder / "homes" / name
    if home.exists():
        home.rename(aside)
    return f"{name} is forgotten; their files, if any, are in {aside}."


if __name__ == "__main__":
    sys.exit(main())
