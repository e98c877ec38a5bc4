"""`mbm-lab poll`: thirty people say on their telephones where the best α and β are.

A small web server for one room. Its rules are in `room`; here is how they are reached. It serves
to this computer alone unless told otherwise, asks nothing of the internet, and keeps nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import signal
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import segno

from mbm_lab import lab
from mbm_lab.room import Refused, Room, parsed
from mbm_lab.widgets.playground import FusionPlayground, sprite

PAGES = Path(__file__).parent / "widgets"

LEVELS = {
    "the cards as they are": (0.0, 0.0),
    "worse pictures": (0.4, 0.0),
    "pictures full of noise": (0.8, 0.0),
    "smudged messages": (0.0, 0.5),
}
"""The rounds, and of each the picture noise and the word dropout."""

MOST_HEAD, MOST_BODY = 16_384, 1024
"""Bytes of a request: its lines above, and what it brings."""
WAIT_IDLE, WAIT_REQUEST, WAIT_SEND = 20.0, 5.0, 10.0
"""Seconds that a connection may rest, that a request may take to come, and an answer to go."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says to browsers: nothing from elsewhere, in no other page, kept nowhere."""

REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict",
    411: "Length Required", 413: "Content Too Large", 415: "Unsupported Media Type",
    421: "Misdirected Request", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip

FILES = {
    "/": "poll.html",
    "/room": "poll.html",
    "/poll.css": "poll.css",
    "/poll.js": "poll.js",
    "/playground.css": "playground.css",
    "/playground.js": "playground.js",
}
"""The pages: `/` for telephones, `/room` for the instructor."""

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


# --- A request


@dataclass
class Request:
    """A request's method, path, what stands behind "?", headers (in small letters) and body."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def lasts(self) -> bool:
        """Whether the connection stays open for another request."""
        return self.headers.get("connection", "").lower() != "close"


FIRST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,2000}) HTTP/1\.([01])")
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")


def request_of(head: bytes) -> Request:
    """The lines above a request's body, up to the empty one, as a `Request` without its body.

    Raises Refused for everything that no browser sends.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    start, found = FIRST_LINE.fullmatch(first), [HEADER.fullmatch(line) for line in lines]
    if not start or not all(found):
        raise Refused(400, "This is no request as browsers send it.")
    headers = {}
    for line in found:
        name = line[1].lower()
        if name in headers and name in ("host", "content-length", "origin", "cookie"):
            raise Refused(400, f"There are two lines {name}, and one is allowed.")
        headers[name] = line[2]
    if start[3] == "0":
        headers["connection"] = "close"
    path, _, query = start[2].partition("?")
    return Request(start[1], path, query, headers)


def length_of(request: Request) -> int:
    """How many bytes the request brings. Raises Refused when that is not said, or too many."""
    if "transfer-encoding" in request.headers:
        raise Refused(411, "Say beforehand how long the request is (Content-Length).")
    length = request.headers.get("content-length")
    if length is None:
        if request.method == "POST":
            raise Refused(411, "Say beforehand how long the request is (Content-Length).")
        return 0
    if not re.fullmatch(r"[0-9]{1,20}", length):
        raise Refused(400, "Content-Length is not a number.")
    if int(length) > MOST_BODY:
        raise Refused(413, f"The request is too long: {MOST_BODY} bytes are enough.")
    return int(length)


# --- Addresses


def is_everywhere(host: str) -> bool:
    """Whether a server on this address serves on all of this computer's addresses."""
    return lab.is_everywhere(host)


def names_of(host: str) -> set[str]:
    """The names and addresses by which a server on `host` is asked for, in small letters.

    A browser that was lured here under another name (DNS rebinding) is sent away.
    """
    names = {host.lower()}
    if is_everywhere(host):
        names |= {
            *_addresses(),
            socket.gethostname().lower(),
            f"{socket.gethostname().lower()}.local",
        }
    else:
        with contextlib.suppress(OSError):
            names.add(socket.gethostbyname(host))
    if "127.0.0.1" in names:
        names.add("localhost")
    return names


def _addresses() -> list[str]:
    """This computer's addresses."""
    cards = psutil.net_if_addrs().values()
    return sorted(one.address for card in cards for one in card if one.family == socket.AF_INET)


def outer_address(host: str) -> str:
    """The address for telephones: that of the network through which this computer reaches others.

    Nothing is sent to find it.
    """
    if not is_everywhere(host):
        return lab.in_url(host)
    return lab.own_address() or socket.gethostname()


# --- The server


class Server:
    """Serves a `Room` on a port, until `close`.

    `pages_at` is where telephones go, `instructor_at` the instructor's own address.
    """

    def __init__(self, room: Room, host: str, port: int):
        self.room, self.host, self.port = room, host, port
        self.names = names_of(host)
        self.here_only = host in ("127.0.0.1", "localhost", "::1")
        self.pages_at = f"http://{outer_address(host)}:{port}"
        local = "localhost" if is_everywhere(host) else outer_address(host)
        self.instructor_at = f"http://{local}:{port}/room#{room.token}"
        scanned = segno.make(f"{self.pages_at}/#{room.key}", micro=False)
        self.way_in = {
            "address": self.pages_at,
            "code": room.code,
            "picture": scanned.svg_data_uri(border=3),
            "here_only": self.here_only,
        }
        self.cookie = f"mbm_poll_{port}"  # for browsers, all ports of a computer are one place
        self.files = {
            path: (KINDS[Path(name).suffix], (PAGES / name).read_bytes())
            for path, name in FILES.items()
        }
        self.posts = {
            "/join": self._join,
            "/answer": self._answer,
            "/room/show": lambda request, asked, _: self._lead(request, room.show, asked),
            "/room/next": lambda request, asked, _: self._lead(request, room.begin, asked),
        }
        self.states = {"/state": self._state, "/room/state": self._room_state}
        self.most_connections = _most_connections()
        self._resting: dict[asyncio.StreamWriter, None] = {}  # the longest resting one comes first
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listens. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(
            self._connection, self.host, self.port, limit=MOST_HEAD, backlog=512
        )

    async def close(self) -> None:
        """Ends all connections."""
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    # A connection

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self.most_connections and self._resting:
            silent = next(iter(self._resting))
            del self._resting[silent]
            silent.transport.abort()  # somebody who says nothing makes room
        self._open.add(writer)
        address = (writer.get_extra_info("peername") or ("",))[0]
        try:
            while await self._one_request(reader, writer, address):
                pass
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            pass  # whoever was there has gone
        finally:
            self._resting.pop(writer, None)
            self._open.discard(writer)
            writer.close()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> bool:
        """Answers one request; whether another may come on this connection."""
        self._resting[writer] = None
        try:
            request = await self._read(reader)
        except Refused as refused:
            await _send(writer, _refusal(refused), lasts=False)
            await _listen_to_the_end(reader, writer)
            return False
        finally:
            self._resting.pop(writer, None)
        try:
            answer = self._answer_to(request, address)
        except Refused as refused:
            answer = _refusal(refused)
        if request.method == "HEAD":
            answer.body_is_sent = False
        await _send(writer, answer, request.lasts)
        return request.lasts

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        async with asyncio.timeout(WAIT_IDLE):
            first = await reader.readexactly(1)
        if not first.isupper():  # GET, POST: other programs, and HTTPS, begin in other ways
            raise Refused(400, "This is no request as browsers send it.")
        try:
            async with asyncio.timeout(WAIT_REQUEST):
                head = first + await reader.readuntil(b"\r\n\r\n")
                request = request_of(head)
                request.body = await reader.readexactly(length_of(request))
        except TimeoutError:
            raise Refused(408, "The request took too long to come.") from None
        except asyncio.LimitOverrunError:
            raise Refused(431, "The request's headers are too long.") from None
        except asyncio.IncompleteReadError:
            raise Refused(400, "The request ended too early.") from None
        return request

    # What is answered

    def _answer_to(self, request: Request, address: str) -> Answer:
        self._check_host(request)
        reads = request.path in self.files or request.path in self.states
        if not reads and request.path not in self.posts:
            raise Refused(404, "There is nothing at this address.")
        if request.method not in (("GET", "HEAD") if reads else ("POST",)):
            raise Refused(405, f"This address wants {'GET' if reads else 'POST'}.")
        if request.path in self.files:
            kind, content = self.files[request.path]
            return Answer(200, content, {"Content-Type": f"{kind}; charset=utf-8"})
        if request.path in self.states:
            return self.states[request.path](request)
        self._check_origin(request)
        return self.posts[request.path](request, parsed(request.body), address)

    def _check_host(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        name, _, port = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "80")
        if name.strip("[]") not in self.names or port != str(self.port):
            said = f"This is not the address of the poll: open {self.pages_at} instead."
            raise Refused(421, said)

    def _check_origin(self, request: Request) -> None:
        """What changes something comes from the poll's own pages, as JSON; other sites' pages can
        send neither."""
        headers = request.headers
        own = headers.get("origin", "").lower() in ("", f"http://{headers['host'].lower()}")
        if not own or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "Only the poll's own pages may do this.")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "Send JSON (Content-Type: application/json).")

    def _device(self, request: Request) -> str | None:
        found = re.search(
            rf"(?:^|;)\s*{self.cookie}=([\w-]{{1,64}})(?:;|$)", request.headers.get("cookie", "")
        )
        return found[1] if found else None

    def _join(self, request: Request, asked: dict, address: str) -> Answer:
        device = self.room.join(asked.get("code"), address, self._device(request))
        answer = _json({"joined": True})
        answer.headers["Set-Cookie"] = f"{self.cookie}={device}; Path=/; HttpOnly; SameSite=Strict"
        return answer

    def _answer(self, request: Request, asked: dict, address: str) -> Answer:
        self.room.answer(self._device(request), address, asked)
        return _json({"taken": True})

    def _state(self, request: Request) -> Answer:
        return _news(request, self.room.for_a_device(self._device(request)))

    def _lead(self, request: Request, does: Callable[[dict], None], asked: dict) -> Answer:
        self.room.check_instructor(_token(request))
        does(asked)
        return _json(self.room.for_the_instructor())

    def _room_state(self, request: Request) -> Answer:
        self.room.check_instructor(_token(request))
        return _news(request, {**self.room.for_the_instructor(), "join": self.way_in})


@dataclass
class Answer:
    """An answer's status, body and own headers."""

    status: int
    body: bytes
    headers: dict[str, str]
    body_is_sent: bool = True


def _json(value: dict, status: int = 200) -> Answer:
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8"})


def _refusal(refused: Refused) -> Answer:
    answer = _json({"error": refused.sentence}, refused.status)
    if refused.wait:
        answer.headers["Retry-After"] = str(max(1, round(refused.wait)))
    return answer


def _news(request: Request, state: dict) -> Answer:
    """The state, or nothing (204) for whoever has seen this version of it: `?seen=12`."""
    if request.query == f"seen={state['version']}":
        return Answer(204, b"", {})
    return _json(state)


def _token(request: Request) -> str | None:
    return request.headers.get("authorization", "").removeprefix("Bearer ") or None


async def _send(writer: asyncio.StreamWriter, answer: Answer, lasts: bool) -> None:
    headers = {
        **HEADERS,
        **answer.headers,
        "Content-Length": str(len(answer.body)),
        "Connection": "keep-alive" if lasts else "close",
    }
    if answer.status == 204:
        del headers["Content-Length"]
    lines = [f"HTTP/1.1 {answer.status} {REASONS[answer.status]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    body = answer.body if answer.body_is_sent else b""
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    async with asyncio.timeout(WAIT_SEND):
        await writer.drain()


async def _listen_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads on for a moment: who is cut off in the middle of a sentence never hears the answer."""
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range(64):
                if not await reader.read(4096):
                    return


def _most_connections() -> int:
    """How many connections there may be at once; a system may allow few open files."""
    try:
        import resource
    except ImportError:  # Windows
        return 400
    return max(40, min(800, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100))


# --- The command


ENDS = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a poll: Ctrl+C, and what a system sends."""


def rounds() -> list[dict]:
    """What is asked, from the first 100 test cards as the stored models read them.

    Of each of `LEVELS`: `title`, the readings `f`, `g` and the moods `m`, each a list of one
    number a card, and `cards`, two of them to think by: on one the picture is nearer to the mood,
    on the other the message.
    """
    playground = FusionPlayground()
    witnesses, m = playground.witnesses, playground.m
    asked = []
    for title, (noise, dropout) in LEVELS.items():
        f, g = witnesses.read(noise, dropout)
        apart = (g - m).abs() - (f - m).abs()
        apart = apart.where((f - g).abs() > 0.3, 0.0)
        cards = []
        for i in (int(apart.argmax()), int(apart.argmin())):
            picture = base64.b64encode(sprite(witnesses.noisy_images(slice(i, i + 1), noise)))
            cards.append({
                "picture": f"data:image/png;base64,{picture.decode()}",
                "caption": playground.captions[i],
                "message": witnesses.message(i, dropout),
                **{name: round(float(x[i]), 6) for name, x in (("f", f), ("g", g), ("m", m))},
            })  # fmt: skip
        readings = {name: x.tolist() for name, x in (("f", f), ("g", g), ("m", m))}
        asked.append({"title": title, **readings, "cards": cards})
    return asked


def serve(port: int | None = None, host: str = "127.0.0.1", browser: bool = True) -> int:
    """Holds a poll until Ctrl+C, and opens the instructor's page if there is a screen.

    port: the port to serve on; None takes the first free one from 8888. host: the address to serve
    on; `0.0.0.0` lets the telephones of the network in. Returns the exit status. Raises ValueError
    when the port is taken.
    """
    lab.check_is_ours(host, "--host")
    port = lab.choose_port(port, host)
    asked = []  # to end: what loads PyTorch may swallow the error that Ctrl+C raises

    def end(number: int, frame: object) -> None:
        if not asked:  # once is enough
            asked.append(number)
            raise KeyboardInterrupt

    for number in ENDS:
        signal.signal(number, end)
    with contextlib.suppress(KeyboardInterrupt):
        print("The readers read 100 postcards, clean and made worse ...", flush=True)
        server = Server(Room(rounds()), host, port)
        if not asked:
            asyncio.run(_hold(server, browser))
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)  # it is ending
    print("\nThe poll has ended. Nothing of it was kept.")
    return 0


async def _hold(server: Server, browser: bool) -> None:
    asked = asyncio.Event()  # to end
    for number in ENDS:
        with contextlib.suppress(NotImplementedError):  # Windows: there, an error ends it
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await server.start()
    print("\nThe instructor's page is at this address, which is for you alone:")
    print(f"\n    {server.instructor_at}\n")
    if server.here_only:
        print("Only this computer can join. To let telephones in: mbm-lab poll --host 0.0.0.0")
    print(f"Telephones join at {server.pages_at} with the code {server.room.code}.")
    print("Press Ctrl+C here to end; nothing is kept.", flush=True)
    if browser and lab.has_screen():
        webbrowser.open(server.instructor_at)
    try:
        await asked.wait()
    finally:
        await server.close()
