"""`python -m workshop.rehearse`: does the classroom's server hold, when everyone comes at once?

It starts a server of its own, signs learners up as browsers do, and runs a lesson cell by cell in
each of them at the same time; on request one is caught in an endless loop and one takes more and
more memory, in the middle of it. Then it says how long everyone waited, what they needed, and what
failed; no Unix user, process or file is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.cookiejar
import json
import math
import os
import pwd
import secrets
import shutil
import ssl
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from mbm_lab import lab, lessons
from workshop import hub, limits, seats
from workshop.hub_settings import PREFIX

SLOWEST_CELL = 900.0  # seconds
SLOWEST_START = 300.0

LOOP = "while True:\n    pass"
# It gives up neither at a MemoryError nor alone.
HOG = """
import subprocess, sys
grow = '''
held = []
while True:
    held.append(bytearray(50_000_000))
'''
children = []
try:
    exec(grow)
except MemoryError:
    while True:
        children.append(subprocess.Popen([sys.executable, "-c", grow]))
        children[-1].wait(20)
"""


class Died(Exception):
    """The kernel has died while a cell ran."""


class Browser:
    """What a browser does for one learner: keeps cookies, follows redirects, answers XSRF checks.

    url: the server's address, such as http://127.0.0.1:8000. trusting: for HTTPS, a file with the
    server's own certificate, or None to ask the computer's authorities.
    """

    def __init__(self, url: str, trusting: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.jar = http.cookiejar.CookieJar()
        self.context = ssl.create_default_context(cafile=trusting)
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.jar),
            urllib.request.HTTPSHandler(context=self.context),
        )

    def ask(
        self, path: str, method: str = "GET", body: object = None, form: dict | None = None
    ) -> tuple[int, bytes]:
        """The status and the content of a page, at the end of its redirects."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Sec-Fetch-Mode": "navigate" if method == "GET" or form else "cors"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if form is not None:
            data = urllib.parse.urlencode(form | {"_xsrf": self.xsrf(path)}).encode()
        elif method != "GET":
            headers["X-XSRFToken"] = self.xsrf(path)
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self.opener.open(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def xsrf(self, path: str) -> str:
        """The token against forged requests that belongs to a path."""
        return max(
            (c for c in self.jar if c.name == "_xsrf" and path.startswith(c.path)),
            key=lambda cookie: len(cookie.path),
            default=argparse.Namespace(value=""),
        ).value

    def cookies(self, path: str) -> str:
        """The cookies of a path, as one header."""
        request = urllib.request.Request(self.url + path)
        self.jar.add_cookie_header(request)
        return request.get_header("Cookie", "")


class Learner:
    """A learner of the rehearsal: signs up, starts their server, and runs cells in its kernel."""

    def __init__(self, name: str, url: str, trusting: str | None = None) -> None:
        self.name = name
        self.password = secrets.token_urlsafe(12)
        self.browser = Browser(url, trusting)
        self.home = f"/user/{name}"
        self.kernel = ""
        self.socket: WebSocketClientConnection | None = None

    async def ask(self, path: str, method: str = "GET", body: object = None) -> object:
        """What the server answers, as plain data; raises RuntimeError when it is an error."""
        status, content = await asyncio.to_thread(self.browser.ask, path, method, body)
        if status >= 400:
            raise RuntimeError(f"HTTP {status} from {method} {path}: {content[:200].decode()}")
        return json.loads(content) if content else None

    async def sign_in(self, code: str = "", password: str | None = None) -> int:
        """Signs up with the room's code, or in without; returns the HTTP status."""
        await asyncio.to_thread(self.browser.ask, "/hub/login")
        form = {"username": self.name, "password": password or self.password, "code": code}
        status, self.page = await asyncio.to_thread(
            self.browser.ask, "/hub/login?next=%2Fhub%2Fhome", "POST", None, form
        )
        return status

    async def start_server(self) -> None:
        """Starts the learner's server if it does not run, and opens it as a browser does."""
        until = time.monotonic() + SLOWEST_START
        asked = False
        while True:
            model = await self.ask(f"/hub/api/users/{self.name}")
            server = (model.get("servers") or {}).get("", {})
            if server.get("ready"):
                break
            pending = server.get("pending") or model.get("pending")
            if time.monotonic() > until or (asked and not pending):
                raise RuntimeError("the learner's server did not start")
            if not asked:
                await self.ask(f"/hub/api/users/{self.name}/server", "POST", {})
                asked = True
            await asyncio.sleep(0.5)
        status, _ = await asyncio.to_thread(self.browser.ask, f"{self.home}/lab")
        if status != 200:
            raise RuntimeError(f"HTTP {status} from JupyterLab")

    async def open(self, lesson: str) -> list[dict]:
        """Opens a notebook and its kernel; returns its code cells."""
        path = f"my_lessons/{lesson}.ipynb"
        model = await self.ask(f"{self.home}/api/contents/{urllib.parse.quote(path)}")
        body = {"path": path, "name": lesson, "type": "notebook", "kernel": {"name": "python3"}}
        session = await self.ask(f"{self.home}/api/sessions", "POST", body)
        self.kernel = session["kernel"]["id"]
        await self.connect()
        return [cell for cell in model["content"]["cells"] if cell["cell_type"] == "code"]

    async def connect(self) -> None:
        """Opens the kernel's channels."""
        self.session = uuid.uuid4().hex
        path = f"{self.home}/api/kernels/{self.kernel}/channels"
        query = urllib.parse.urlencode(
            {"session_id": self.session, "_xsrf": self.browser.xsrf(path)}
        )
        url = "ws" + self.browser.url.removeprefix("http") + f"{path}?{query}"
        request = HTTPRequest(
            url,
            headers={"Cookie": self.browser.cookies(path), "Origin": self.browser.url},
            ssl_options=self.browser.context,
            connect_timeout=120,
            request_timeout=120,
        )
        self.socket = await websocket_connect(request, max_message_size=2**28)

    async def run(self, code: str, seconds: float = SLOWEST_CELL) -> dict:
        """Runs a cell; returns the kernel's reply, with all printed text as "printed".

        Raises Died when the kernel dies, TimeoutError when it takes longer than `seconds`.
        """
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "session": self.session}
        header |= {"username": self.name, "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        content |= {"user_expressions": {}, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await self.socket.write_message(json.dumps(message | {"channel": "shell", "buffers": []}))
        return await asyncio.wait_for(self._reply(number), seconds)

    async def _reply(self, number: str) -> dict:
        """Reads until a cell has been answered, and all of its output has come."""
        reply, idle, printed = None, False, []
        while reply is None or not idle:
            raw = await self.socket.read_message()
            if raw is None:
                raise Died("the connection was closed")
            if isinstance(raw, bytes):  # a widget's message, with data behind it
                continue
            message = json.loads(raw)
            kind, content = message["msg_type"], message["content"]
            state = content.get("execution_state") if kind == "status" else None
            if state in ("restarting", "autorestarting", "dead"):
                raise Died(state)
            if message["parent_header"].get("msg_id") != number:
                continue
            idle |= state == "idle"
            if kind == "execute_reply":
                reply = content
            elif kind == "stream":
                printed.append(content["text"])
        return reply | {"printed": "".join(printed)}

    async def interrupt(self) -> None:
        """Does what the button with the square does."""
        await self.ask(f"{self.home}/api/kernels/{self.kernel}/interrupt", "POST", {})

    async def leave(self) -> None:
        """Ends the learner's server."""
        if self.socket is not None:
            self.socket.close()
        with contextlib.suppress(RuntimeError, OSError):
            await self.ask(f"/hub/api/users/{self.name}/server", "DELETE")


@dataclass
class Account:
    """What a learner of the rehearsal went through: seconds from the start, bytes of memory.

    fate: what became of one who looped or took too much memory.
    """

    name: str
    first_cell: float = math.nan
    done: float = math.nan
    memory: int = 0
    computing: float = 0.0
    fate: str = ""
    failures: list[str] = field(default_factory=list)


async def attend(
    learner: Learner, code: str, lesson: str, account: Account, trouble: str, others: asyncio.Event
) -> None:
    """One learner's visit: signs up, runs the lesson; every failure is noted in the account.

    trouble: "", or LOOP or HOG, which they run in the middle; others: set when all others are done.
    """
    start = time.monotonic()
    try:
        status = await learner.sign_in(code)
        if status != 200:
            raise RuntimeError(f"HTTP {status} at signing up")
        await learner.start_server()
        cells = await learner.open(lesson)
        for number, cell in enumerate(cells):
            if trouble and number == len(cells) // 2:
                await _get_into(trouble, learner, account, others)
                if trouble == HOG:
                    return
            reply = await learner.run(cell["source"])
            expected = "raises-exception" in cell["metadata"].get("tags", [])
            if reply["status"] != "ok" and not expected:
                said = f"{reply.get('ename', reply['status'])}: {reply.get('evalue', '')}"
                account.failures.append(f"cell {number + 1}: {said}")
            if number == 0:
                account.first_cell = time.monotonic() - start
        if not trouble:
            account.done = time.monotonic() - start
    except Exception as error:  # whatever went wrong is what a rehearsal is for
        account.failures.append(f"{type(error).__name__}: {error}")


async def _get_into(
    trouble: str, learner: Learner, account: Account, others: asyncio.Event
) -> None:
    """Lets a learner make a mistake that could harm others, and says what became of it."""
    start = time.monotonic()
    if trouble == LOOP:
        running = asyncio.ensure_future(learner.run(LOOP))
        await others.wait()
        if running.done():
            account.failures.append(f"the endless loop ended: {running.result()}")
            return
        await learner.interrupt()
        reply = await asyncio.wait_for(running, 60)
        held = time.monotonic() - start
        account.fate = f"looped for {held:.0f} s, was interrupted ({reply['ename']}), and went on"
        return
    try:
        reply = await learner.run(HOG, 300)
        account.failures.append(f"the hog's kernel did not end: {reply['status']}")
    except Died:
        held = time.monotonic() - start
        account.fate = f"its kernel was ended after {held:.0f} s"
        learner.socket.close()
        for _ in range(60):
            await asyncio.sleep(1)
            with contextlib.suppress(Exception):
                await learner.connect()
                reply = await learner.run("print(6 * 7)", 30)
                if reply["printed"] == "42\n":
                    account.fate += ", and a new one answered"
                    return
        account.failures.append("the hog got no new kernel")


def measure(accounts: list[Account]) -> None:
    """Notes the memory and the CPU time of every learner's processes; the most so far counts."""
    uids = {}
    for account in accounts:
        with contextlib.suppress(KeyError):
            uids[pwd.getpwnam(PREFIX + account.name).pw_uid] = account.name
    found = limits.learners(uids or None)
    for account in accounts:
        pids = [pid for session in found.get(account.name, {}).values() for pid in session.pids]
        account.memory = max(account.memory, sum(map(limits.pss, pids)))
        account.computing = max(account.computing, sum(map(limits.cpu_seconds, pids)))


async def rehearse(
    url: str,
    code: str,
    lesson: str,
    names: list[str],
    loop: bool = False,
    hog: bool = False,
    trusting: str | None = None,
) -> list[Account]:
    """Lets these learners all come at once; the last two may loop, and take too much memory."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(names) + 4))
    troubles = [LOOP] * loop + [HOG] * hog
    troubles = [""] * (len(names) - len(troubles)) + troubles
    learners = [Learner(name, url, trusting) for name in names]
    accounts = [Account(name) for name in names]
    others = asyncio.Event()
    visits = [
        asyncio.ensure_future(attend(learner, code, lesson, account, trouble, others))
        for learner, account, trouble in zip(learners, accounts, troubles, strict=True)
    ]
    quiet = [visit for visit, trouble in zip(visits, troubles, strict=True) if trouble != LOOP]
    watching = asyncio.ensure_future(_watch(accounts))
    try:
        await asyncio.wait(quiet or visits)
        await asyncio.to_thread(measure, accounts)
        others.set()
        await asyncio.gather(*visits)
    finally:
        watching.cancel()
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*(learner.leave() for learner in learners))
    return accounts


async def _watch(accounts: list[Account]) -> None:
    """Measures from time to time; seldom, because measuring costs time, too."""
    while True:
        await asyncio.sleep(5)
        await asyncio.to_thread(measure, accounts)


# What is said about it


def report(accounts: list[Account], lesson: str) -> str:
    """The rehearsal as a table: median and worst of what the learners waited for and needed."""
    quiet = [account for account in accounts if not account.fate]
    rows = [
        ("seconds to the first cell", [a.first_cell for a in quiet], "{:.0f}"),
        (f"seconds to the end of lesson {lesson}", [a.done for a in quiet], "{:.0f}"),
        ("MB of memory (PSS, server and kernel)", [a.memory / 1e6 for a in quiet], "{:.0f}"),
        ("seconds of computing", [a.computing for a in quiet], "{:.0f}"),
    ]
    lines = [f"{len(accounts)} learners at once", "", f"{'':44}{'median':>8}{'worst':>8}"]
    for name, values, form in rows:
        known = [value for value in values if value and not math.isnan(value)]
        both = (statistics.median(known), max(known)) if known else ()
        shown = [form.format(value) for value in both] or ["–", "–"]
        lines.append(f"{name:44}{shown[0]:>8}{shown[1]:>8}")
    lines.append("")
    lines += [f"{account.name}: {account.fate}." for account in accounts if account.fate]
    failures = [f"{a.name}: {failure}" for a in accounts for failure in a.failures]
    return "\n".join([*lines, f"failures: {len(failures)}", *failures])


def sizing(accounts: list[Account], base: int, cores: int, lesson: str) -> str:
    """A table (markdown) of what 12, 30 and 100 learners need, computed from those measured.

    base: bytes that the server needs without learners.
    """
    quiet = [account for account in accounts if not account.fate and not account.failures]
    memory, computing = (
        max(getattr(account, what) for account in quiet) for what in ("memory", "computing")
    )
    done = max(account.done for account in quiet)
    lines = [
        f"| learners | memory | all run lesson {lesson} at once on {cores} cores | "
        "cores for two minutes | |",
        "|---|---|---|---|---|",
    ]
    for number in sorted({len(accounts), 30, 100}):
        gigabytes = (base + 1e9 + number * memory) / 1e9
        took = done if number == len(accounts) else number * computing / cores
        needs = max(1, math.ceil(number * computing / 120))
        how = "measured" if number == len(accounts) else "computed"
        lines.append(f"| {number} | {gigabytes:.0f} GB | {took:.0f} s | {needs} | {how} |")
    return "\n".join(lines)


# The whole of it


@contextlib.contextmanager
def own_hub(names: list[str], **variables: str) -> Iterator[hub.Hub]:
    """A server for a rehearsal, of which nothing is left; variables: more MBM_HUB_ settings."""
    folder = Path(tempfile.mkdtemp(prefix="mbm-rehearsal-"))
    settings = {
        "MBM_HUB_CODE": secrets.token_hex(6),
        "MBM_HUB_PASSWORD": secrets.token_hex(12),
        "MBM_HUB_FOLDER": str(folder),
        "MBM_HUB_PORT": str(lab.free_port()),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MBM_HUB_")}
    limits_kept = ("MBM_HUB_MEMORY_MB", "MBM_HUB_KERNELS")
    kept |= {name: os.environ[name] for name in limits_kept if name in os.environ}
    try:
        with hub.running(kept | settings | variables) as running:
            yield running
    finally:
        if os.geteuid() == 0:
            for name in names:
                seats.remove_unix_user(name)
        shutil.rmtree(folder, ignore_errors=True)


def learner_names(number: int) -> list[str]:
    """Names for a rehearsal's learners, which no real learner has."""
    room = secrets.token_hex(3)
    return [f"r{room}-{i + 1}" for i in range(number)]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workshop.rehearse", description=__doc__)
    parser.add_argument("--learners", type=int, default=12, help="how many come (12)")
    parser.add_argument("--lesson", default="04", help="the lesson that they run (04)")
    parser.add_argument("--loop", action="store_true", help="one of them loops for ever")
    parser.add_argument("--hog", action="store_true", help="one of them takes all memory")
    parser.add_argument("--table", action="store_true", help="print what 12, 30, 100 learners need")
    parser.add_argument("--address", help="a server that runs already, such as https://10.0.0.5")
    parser.add_argument("--code", help="that server's room code")
    parser.add_argument("--certificate", help="that server's certificate, if it is its own")
    options = parser.parse_args(arguments)
    if options.learners < 1 + options.loop + options.hog:
        parser.error("--learners must leave one who neither loops nor takes all memory")
    if bool(options.address) != bool(options.code):
        parser.error("--address and --code belong together")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Rehearses, and prints what was seen; returns 1 if anything failed."""
    options = _options(arguments)
    hub.end_when_asked()
    lesson = lessons.find_lesson(options.lesson).stem
    names = learner_names(options.learners)
    base = 0
    with contextlib.ExitStack() as stack:
        try:
            url, code = options.address, options.code
            if not url:
                own = stack.enter_context(own_hub(names))
                url, code, base = own.settings.url, own.settings.code, _memory_of(own)
            print(f"{len(names)} learners come to {url} ...", flush=True)
            accounts = asyncio.run(
                rehearse(url, code, lesson, names, options.loop, options.hog, options.certificate)
            )
        except KeyboardInterrupt:
            print("The rehearsal was stopped.", file=sys.stderr)
            return 1
        except (ValueError, OSError, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 1
    print(report(accounts, options.lesson))
    if options.table:
        print("\n" + sizing(accounts, base, os.cpu_count() or 1, options.lesson))
    if options.address:
        print(f"\nThe server still knows {names[0]} to {names[-1]}.")
    return 1 if any(account.failures for account in accounts) else 0


def _memory_of(own: hub.Hub) -> int:
    """Bytes that the server holds before anyone comes."""
    everyone = [own.process.pid]
    everyone += [p.pid for p in psutil.Process(own.process.pid).children(recursive=True)]
    return sum(map(limits.pss, everyone))


if __name__ == "__main__":
    sys.exit(main())
