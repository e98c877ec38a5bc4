"""A room's poll: its rules, its server, and what it makes of requests that nobody should send."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbm_lab import __main__, poll
from mbm_lab import room as rules
from mbm_lab.room import Refused, Room, parsed
from tests.crowd import crowd

READINGS = {"f": [0.1, -0.2, 0.4], "g": [0.0, 0.3, -0.5], "m": [0.1, 0.1, -0.2]}
ROUNDS = [{"title": title, **READINGS, "cards": []} for title in ("clean", "noisy")]
POINT = {"round": 1, "alpha": 0.3, "beta": 0.5}


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def room():
    return Room(ROUNDS, Clock())


def refusal(does, *arguments) -> Refused:
    """What is refused; its sentence is one, and it says what to do."""
    with pytest.raises(Refused) as refused:
        does(*arguments)
    sentence = refused.value.sentence
    assert sentence[0].isupper() or sentence.split()[0] in ("alpha", "beta")
    assert re.search(r"[.a-z0-9/]$", sentence)
    return refused.value


# The rules


def test_codes_are_random_and_have_no_letters_that_look_alike():
    codes = {Room(ROUNDS).code for _ in range(50)}
    assert len(codes) == 50
    assert not set("".join(codes)) & set("BGILOQSUZ0123456789")
    assert all(len(code) == 6 for code in codes)
    assert len({Room(ROUNDS).token for _ in range(5)} | {Room(ROUNDS).key for _ in range(5)}) == 10


def test_the_code_opens_however_it_is_typed_and_a_device_stays_itself(room):
    typed = f" {room.code[:3].lower()}-{room.code[3:]} "
    device = room.join(typed, "a")
    assert room.join(room.code, "a", device) == room.join(room.key, "b", device) == device
    assert room.join(room.code, "a", "someone") not in (device, "someone")
    assert len(room.devices) == 2


def test_a_wrong_code_is_refused_and_many_are_slowed_down_but_scanning_works(room):
    for wrong in ("", "X" * 65, 5, None, ["A"], True):
        assert refusal(room.join, wrong, "a").status == 400
    for wrong in ("wrong", room.code + "A", room.code[:-1], "猫\ud800", room.token):
        assert refusal(room.join, wrong, "a").status == 403
    tried = 5
    while (refused := refusal(room.join, "AAAAAA", "a")).status == 403:
        tried += 1
    assert (tried, refused.status) == (30, 429)
    assert refused.wait > 1
    assert refusal(room.join, room.code, "a").status == 429  # or guessing would go on
    assert room.join(room.key, "a")
    assert room.join(room.code, "another school")
    room.clock.now += 2.1
    assert room.join(room.code, "a")


def test_guessing_from_many_addresses_is_slowed_down_too(room):
    outcomes = [refusal(room.join, "AAAAAA", f"address {k}").status for k in range(200)]
    assert outcomes == [403] * 120 + [429] * 80


def test_only_points_of_the_plane_are_taken(room):
    device = room.join(room.key, "a")
    for alpha, beta in ((-0.5, 1.25), (0, 1), (0.333, 0.47)):
        room.clock.now += 1
        room.answer(device, "a", {"round": 1, "alpha": alpha, "beta": beta})
        assert room.devices[device].answer == (alpha, beta)
    taken = room.devices[device].answer
    for wrong in (
        {**POINT, "alpha": -0.51}, {**POINT, "beta": 1.26}, {**POINT, "alpha": "0.3"},
        {**POINT, "alpha": None}, {**POINT, "alpha": True}, {**POINT, "beta": [0.1]},
        {**POINT, "alpha": float("nan")}, {**POINT, "beta": float("inf")},
        {**POINT, "alpha": 10**400}, {**POINT, "beta": {}}, {"round": 1}, {},
        {"alpha": 0.3, "beta": 0.5}, {**POINT, "round": "1"}, {**POINT, "round": True},
        {**POINT, "round": 1.0},
    ):  # fmt: skip
        room.clock.now += 1
        assert refusal(room.answer, device, "a", wrong).status == 400, wrong
    room.clock.now += 1
    assert refusal(room.answer, device, "a", {**POINT, "round": 2}).status == 409
    assert refusal(room.answer, "nobody", "a", POINT).status == 401
    assert refusal(room.answer, None, "a", POINT).status == 401
    assert room.devices[device].answer == taken


def test_the_range_is_that_of_the_page():
    page = (poll.PAGES / "playground.js").read_text(encoding="utf-8")
    assert f"LEAST = {rules.LEAST}, MOST = {rules.MOST};" in page


def test_four_answers_a_second_a_device_and_throwing_cookies_away_does_not_help(room):
    device = room.join(room.key, "a")
    for _ in range(4):
        room.answer(device, "a", POINT)
    assert refusal(room.answer, device, "a", POINT).status == 429
    room.clock.now += 0.26
    room.answer(device, "a", POINT)
    assert refusal(room.answer, device, "a", POINT).status == 429

    def taken(names) -> int:
        """How many of these devices may answer before the first one may not."""
        for count, name in enumerate(names):
            try:
                room.answer(name or room.join(room.key, "a"), "a", POINT)
            except Refused as refused:
                return count if refused.status == 429 else -1
        return -1

    assert 145 < taken([None] * 600) < 155  # a new name for each answer
    assert room.join(room.key, "b")  # others may
    room.clock.now += 30
    assert 295 < taken(list(room.devices) * 4) < 305
    room.clock.now += 1
    assert 95 < taken(list(room.devices) * 4) < 105  # a class of 100 may still answer each second


def test_a_class_behind_one_address_joins_at_once(room):
    for _ in range(100):
        room.answer(room.join(room.code, "school"), "school", POINT)
    assert room.for_the_instructor()["answered"] == 100


def test_a_full_room_forgets_who_is_silent_and_has_no_answer(room):
    for k in range(500):
        room.clock.now += 0.25
        device = room.join(room.key, "a")
        if k < 10:
            room.answer(device, "a", POINT)
    assert room.join(room.key, "a")
    assert len(room.devices) < 300
    assert room.for_the_instructor()["answered"] == 10
    while len(room.devices) < 500:
        room.clock.now += 0.001
        room.join(room.key, f"address {len(room.devices) // 20}")
    assert refusal(room.join, room.key, "new").status == 503


def test_nobody_sees_answers_or_readings_before_they_are_shown(room):
    device = room.join(room.key, "a")
    room.answer(device, "a", POINT)
    before = room.for_the_instructor()
    assert (before["answered"], before["joined"], before["answers"]) == (1, 1, [])
    mine = room.for_a_device(device)
    assert mine["readings"] is before["readings"] is None
    assert mine["answer"] == (0.3, 0.5)
    room.show({"round": 1, "show": "dots"})
    assert room.for_the_instructor()["answers"] == [(0.3, 0.5)]
    assert room.for_a_device(device)["readings"] == READINGS
    assert room.for_a_device(device)["version"] > mine["version"]
    assert refusal(room.answer, device, "a", POINT).status == 409
    room.show({"round": 1, "show": "open"})
    room.answer(device, "a", {**POINT, "alpha": 0.0})
    assert room.for_the_instructor()["answers"] == []


def test_a_new_round_begins_once_even_with_two_instructors(room):
    device = room.join(room.key, "a")
    room.answer(device, "a", POINT)
    room.show({"round": 1, "show": "best"})
    room.show({"round": 1, "show": "best"})  # the other window, at the same time
    room.begin({"round": 1, "next": 1})
    assert refusal(room.begin, {"round": 1, "next": 1}).status == 409
    assert refusal(room.show, {"round": 1, "show": "best"}).status == 409
    state = room.for_the_instructor()
    assert (state["round"], state["title"], state["phase"]) == (2, "noisy", "open")
    assert (state["answered"], state["joined"], room.for_a_device(device)["answer"]) == (0, 1, None)
    for wrong in ({}, {"round": 2}, {"round": 2, "next": 2}, {"round": 2, "next": -1},
                  {"round": 2, "next": "1"}, {"round": 2, "next": True}):  # fmt: skip
        assert refusal(room.begin, wrong).status == 400
    for wrong in ({}, {"round": 2}, {"round": 2, "show": "all"}, {"round": 2, "show": ["dots"]}):
        assert refusal(room.show, wrong).status == 400


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN, max_size=2)
FIELDS = st.sampled_from(["round", "alpha", "beta", "show", "next", "code"])


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=80, deadline=None)
def test_any_body_is_an_object_or_refused(body):
    with contextlib.suppress(Refused):  # and nothing else
        assert isinstance(parsed(body), dict)


def test_bodies_made_to_hurt_are_refused():
    for body in (b"[" * 1024, b'{"a":' * 200, b"{" + b'"a":1e999,' * 90, b"NaN", b'{"alpha": NaN}',
                 b'{"alpha": -Infinity}', b"\xff\xfe{}", b"", b"null", b"1" * 1024):  # fmt: skip
        assert refusal(parsed, body).status == 400
    assert parsed(b'{"alpha": 1e999}') == {"alpha": float("inf")}  # for `answer` to refuse


@given(st.dictionaries(FIELDS, JSON))
@settings(max_examples=80, deadline=None)
def test_any_object_is_an_answer_within_the_plane_or_refused(asked):
    room = Room(ROUNDS)
    device = room.join(room.key, "a")
    for does in (lambda: room.answer(device, "a", asked), lambda: room.show(asked),
                 lambda: room.begin(asked), lambda: room.join(asked.get("code"), "a")):  # fmt: skip
        with contextlib.suppress(Refused):
            does()
    answer = room.devices[device].answer
    assert answer is None or all(-0.5 <= x <= 1.25 for x in answer)
    json.dumps(room.for_the_instructor(), allow_nan=False)


# The server


@contextlib.contextmanager
def serving(host="127.0.0.1", rounds=ROUNDS, **limits):
    """A server in a thread of its own, and all that went wrong in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = poll.Server(Room(rounds), host, port)
    server.faults = []
    for name, value in limits.items():
        setattr(server, name, value)
    ready, loop = threading.Event(), asyncio.new_event_loop()

    def run():
        loop.set_exception_handler(lambda _, context: server.faults.append(context))
        loop.run_until_complete(server.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(server.close())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield server
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert server.faults == []


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


def ask(server, path, send=None, method=None, **headers):
    """(status, content, headers) of an answer; a body that is a dict is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(send, dict):
        send = json.dumps(send)
        headers = {"Content-Type": "application/json", **headers}
    connection.request(method or ("GET" if send is None else "POST"), path, send, headers)
    answer = connection.getresponse()
    content, kind = answer.read(), answer.getheader("Content-Type") or ""
    connection.close()
    return SimpleNamespace(
        status=answer.status,
        said=json.loads(content) if content and "json" in kind else content,
        headers=answer.headers,
    )


def joined(server) -> dict:
    """The headers of a telephone that has joined."""
    answer = ask(server, "/join", {"code": server.room.key})
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def leads(server) -> dict:
    return {"Authorization": f"Bearer {server.room.token}"}


def raw(server, sent: bytes, ends: bool = True) -> bytes:
    """All that the server says to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        with contextlib.suppress(OSError):
            line.sendall(sent)
            if ends:
                line.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionError):
            while more := line.recv(4096):
                said += more
        return said


def test_from_joining_to_the_best_point(server):
    me, lead = joined(server), leads(server)
    number = server.room.number
    assert ask(server, "/state", **me).said["phase"] == "open"
    assert ask(server, "/answer", {**POINT, "round": number}, **me).said == {"taken": True}
    state = ask(server, "/room/state?seen=null", **lead).said
    assert (state["answered"], state["answers"]) == (1, [])
    assert state["join"]["code"] == server.room.code
    assert state["join"]["picture"].startswith("data:image/svg+xml")
    assert ask(server, f"/room/state?seen={state['version']}", **lead).status == 204
    shown = ask(server, "/room/show", {"round": number, "show": "dots"}, **lead).said
    assert shown["answers"] == [[0.3, 0.5]]
    news = ask(server, "/state", **me).said
    assert news["readings"] == READINGS
    assert ask(server, f"/state?seen={news['version']}", **me).status == 204
    assert ask(server, "/answer", {**POINT, "round": number}, **me).status == 409
    again = ask(server, "/room/next", {"round": number, "next": 1}, **lead).said
    assert (again["round"], again["answered"], again["title"]) == (number + 1, 0, "noisy")


def test_learners_cannot_lead(server):
    me, number = joined(server), server.room.number
    tokens = ("Bearer x", "Bearer ", server.room.key, f"Bearer {server.room.key}", "Bearer \xff")
    for wrong in ({}, me, *({"Authorization": token} for token in tokens)):
        for path, send in (("/room/state", None), ("/room/show", {"round": number, "show": "best"}),
                           ("/room/next", {"round": number, "next": 0})):  # fmt: skip
            answer = ask(server, path, send, **wrong)
            assert answer.status == 403
            assert "the whole address" in answer.said["error"]
    assert (server.room.number, server.room.phase) == (number, "open")
    for path, send in (("/state", None), ("/answer", {**POINT, "round": number})):
        answer = ask(server, path, send)
        assert (answer.status, answer.said) == (
            401, {"error": "Join first, with the code that stands on the wall."},
        )  # fmt: skip


def test_a_cookie_is_only_for_this_poll_and_for_no_script(server):
    cookie = ask(server, "/join", {"code": server.room.key}).headers["Set-Cookie"]
    assert re.fullmatch(rf"mbm_poll_{server.port}=[\w-]{{22}}; Path=/; HttpOnly; SameSite=Strict",
                        cookie)  # fmt: skip
    wrong = ask(server, "/join", {"code": "WRONG"})
    assert (wrong.status, "Set-Cookie" in wrong.headers) == (403, False)
    assert wrong.said == {"error": "This is not the code of this room: look at the wall again."}


def test_other_sites_and_other_names_are_sent_away(server):
    join, host = {"code": server.room.key}, f"127.0.0.1:{server.port}"
    for name in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", "", "[::1]:80", "[",
                 f"127.0.0.1.evil.example:{server.port}", f"127.0.0.1:{server.port}@evil.example",
                 "127.0.0.1:99999999999999999999"):  # fmt: skip
        for path in ("/", "/room", "/state"):
            assert ask(server, path, Host=name).status == 421, name
        assert ask(server, "/join", join, Host=name).status == 421
    for name in (host, f"LOCALHOST:{server.port}"):
        assert ask(server, "/", Host=name).status == 200
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"https://{host}"},
        {"Origin": f"http://{host}.evil.example"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ):  # fmt: skip
        assert ask(server, "/join", join, **headers).status == 403, headers
    assert ask(server, "/join", join, Origin=f"http://{host}").status == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
        assert ask(server, "/join", join, Content_Type=kind).status == 415
    for path in ("/", "/join", "/nothing"):
        answer = ask(server, path, method="OPTIONS", Origin="http://evil.example")
        assert answer.status in (404, 405)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_keeps_browsers_within_bounds(server):
    for path in ("/", "/room", "/poll.js", "/playground.js", "/poll.css", "/state", "/nothing"):
        headers = ask(server, path).headers
        for name, value in poll.HEADERS.items():
            assert headers[name] == value
    assert "unsafe" not in poll.HEADERS["Content-Security-Policy"]
    head = ask(server, "/", method="HEAD")
    assert (head.status, head.said) == (200, b"")
    for name in ("poll.html", "poll.js", "poll.css"):
        page = (poll.PAGES / name).read_text(encoding="utf-8")
        assert re.findall(r"https?://|//\w+\.\w", page) == [], name


def test_the_pages_take_the_formula_from_the_playground():
    page = (poll.PAGES / "poll.js").read_text(encoding="utf-8")
    assert re.search(r'import \{[^}]*\berror\b[^}]*\} from "./playground.js";', page)
    assert "c.ff" not in page
    assert "c.gg" not in page


LINE = b"POST /answer HTTP/1.1\r\n"

MALFORMED = {
    b"\r\n\r\n": 400,
    b"hello\r\n\r\n": 400,
    b"GET / HTTP/9.9\r\n\r\n": 400,
    b"GET  / HTTP/1.1\r\n\r\n": 400,
    b"GET http://evil.example/ HTTP/1.1\r\n\r\n": 400,
    b"get / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : HOST\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: HOST\r\n folded\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: HOST": 400,  # it ends in the middle
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40: 400,  # HTTPS
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n": 421,
    b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n": 431,
    b"X" * 200_000: 431,
    b"x" * 200_000: 400,
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 404,
    b"GET /%2e%2e/poll.py HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 404,
    b"GET /answer HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 405,
    b"DELETE /state HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n": 405,
    b"PUT / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: 0\r\n\r\n": 405,
    LINE + b"Host: HOST\r\n\r\n{}": 411,
    LINE + b"Host: HOST\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n": 411,
    LINE + b"Host: HOST\r\nContent-Length: 99999999999\r\n\r\n{}": 413,
    LINE + b"Host: HOST\r\nContent-Length: 2000\r\n\r\n" + b" " * 2000: 413,
    LINE + b"Host: HOST\r\nContent-Length: -1\r\n\r\n{}": 400,
    LINE + b"Host: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}": 400,
    LINE + b"Host: HOST\r\nContent-Length: 1e1\r\n\r\n{}": 400,
    LINE + b"Host: HOST\r\nContent-Length: 50\r\n\r\n{}": 400,  # shorter than it says
}


@pytest.mark.parametrize("ends", [True, False])
def test_malformed_requests_get_a_sentence_and_harm_nothing(server, ends):
    before = server.room.for_the_instructor()
    for sent, status in MALFORMED.items():
        if not ends and (b"Length: 50" in sent or sent.endswith(b"HOST")):
            continue  # it would wait for more
        sent = sent.replace(b"HOST", f"127.0.0.1:{server.port}".encode())
        said = raw(server, sent, ends)
        assert said.startswith(f"HTTP/1.1 {status} ".encode()), (sent[:80], said[:80])
        assert len(json.loads(said.partition(b"\r\n\r\n")[2])["error"].split()) > 3
    assert ask(server, "/").status == 200
    assert server.room.for_the_instructor() == before


def test_wrong_answers_get_a_sentence(server):
    for body in ("", "nonsense", "[]", '{"alpha": NaN, "beta": 0, "round": 1}', "\xff", "5",
                 '{"round": 1}', '{"alpha": 1e999, "beta": 0, "round": 1}'):  # fmt: skip
        me = {"Content_Type": "application/json", **joined(server)}
        answer = ask(server, "/answer", body.encode("latin-1"), **me)
        assert answer.status == 400
        assert len(answer.said["error"].split()) > 3
    answers = [ask(server, "/answer", {**POINT, "round": server.room.number}, **me)
               for _ in range(8)]  # fmt: skip
    assert 429 in [answer.status for answer in answers]
    assert int(answers[-1].headers["Retry-After"]) >= 1


GOOD = (
    b"POST /answer HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    b"Cookie: a=b\r\nContent-Length: 36\r\n\r\n" + b'{"round":1,"alpha":0.31,"beta":0.51}'
)


@st.composite
def nearly_good(draw):
    """A good request with some of its bytes changed, left out or doubled."""
    sent = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(sent) - 1))
        sent[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(sent)


@given(st.binary(max_size=200) | nearly_good())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_answered_or_dropped(server, sent):
    answers = server.room.for_the_instructor()["answered"]
    said = raw(server, sent.replace(b"HOST", f"127.0.0.1:{server.port}".encode()))
    assert said == b"" or re.match(rb"HTTP/1\.1 4\d\d ", said)
    assert server.room.for_the_instructor()["answered"] == answers
    assert server.faults == []


@given(st.binary(max_size=300) | nearly_good())
@settings(max_examples=100, deadline=None)
def test_any_head_is_a_request_or_refused(sent):
    with contextlib.suppress(Refused):  # and nothing else
        request = poll.request_of(sent + b"\r\n\r\n")
        assert poll.length_of(request) <= poll.MOST_BODY


def test_two_requests_may_come_at_once(server):
    host = f"127.0.0.1:{server.port}".encode()
    one = b"GET /nothing HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert raw(server, one + one).count(b"HTTP/1.1 404 ") == 2
    old = b"GET /nothing HTTP/1.0\r\nHost: " + host + b"\r\n\r\n"
    assert raw(server, old + one, ends=False).count(b"HTTP/1.1 404 ") == 1


def within(seconds: float, check) -> bool:
    """Whether `check` becomes true in this time."""
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(check())


def test_slow_and_silent_connections_are_ended_and_hold_nobody_up(monkeypatch):
    monkeypatch.setattr(poll, "WAIT_IDLE", 30)
    monkeypatch.setattr(poll, "WAIT_REQUEST", 0.6)
    with serving(most_connections=20) as server, contextlib.ExitStack() as stack:
        place = ("127.0.0.1", server.port)
        silent = [stack.enter_context(socket.create_connection(place)) for _ in range(60)]
        assert ask(server, "/").status == 200
        assert within(10, lambda: len(server._open) <= 20), len(server._open)  # some made room
        monkeypatch.setattr(poll, "WAIT_IDLE", 0.3)
        slow = stack.enter_context(socket.create_connection(place, timeout=10))
        slow.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(3):  # a byte now and then does not keep it alive
            time.sleep(0.15)
            with contextlib.suppress(ConnectionError):
                slow.sendall(b"X")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        for line in silent[:40]:  # those made room
            line.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert line.recv(100) == b""
        idle = stack.enter_context(socket.create_connection(place, timeout=10))
        assert idle.recv(100) == b""
        assert ask(server, "/").status == 200


def test_who_reads_nothing_is_dropped(monkeypatch):
    monkeypatch.setattr(poll, "WAIT_SEND", 0.3)
    with serving() as server:
        server.files["/"] = ("text/html", b"x" * 30_000_000)
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % server.port)
            assert within(10, lambda: server._open)
            assert within(10, lambda: not server._open)
        assert ask(server, "/poll.js").status == 200


def test_a_hundred_telephones_are_answered_quickly():
    for _ in range(2):  # another program may be busy for a moment
        with serving() as server:
            waits = asyncio.run(crowd(server.pages_at, server.room.code, clients=100, seconds=2.5))
            assert waits.faults == []
            assert len(waits.seconds) > 1000
            assert server.room.for_the_instructor()["answered"] == 100
        if waits.share(0.95) < 0.5:
            return
    pytest.fail(str(waits))


# Addresses


def test_without_more_only_this_computer_is_served(server):
    options = __main__._parser().parse_args(["poll"])
    assert options.host == "127.0.0.1"
    assert [one.getsockname()[0] for one in server._server.sockets] == ["127.0.0.1"]
    assert server.names == {"127.0.0.1", "localhost"}
    assert server.here_only


def test_with_a_host_all_names_of_this_computer_are_known_and_no_other():
    with serving("0.0.0.0") as server:
        assert not server.here_only
        for name in server.names:
            assert ask(server, "/", Host=f"{name}:{server.port}").status == 200
        assert ask(server, "/", Host=f"evil.example:{server.port}").status == 421
        assert {"localhost", "127.0.0.1", socket.gethostname().lower()} <= server.names
        assert server.instructor_at.startswith("http://localhost:")
        assert server.pages_at.removeprefix("http://").partition(":")[0] in server.names


def test_addresses_and_ports_that_cannot_be_had_are_refused_in_one_sentence(server):
    with pytest.raises(ValueError, match=r"This computer has no address '192\.0\.2\.7': --host"):
        poll.serve(host="192.0.2.7", browser=False)
    with pytest.raises(ValueError, match=f"Port {server.port} cannot be used here"):
        poll.serve(port=server.port, browser=False)


# The command


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end politely on")
def test_the_command_holds_a_poll_and_ends_without_a_trace(tmp_path):
    command = [sys.executable, "-m", "mbm_lab", "poll", "--no-browser"]
    program = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT)  # fmt: skip
    said = ""
    for line in program.stdout:
        said += line
        if "Ctrl+C" in line:
            break
    instructor = re.search(r"http://localhost:(\d+)/room#(\S+)\n", said)
    code = re.search(r"with the code ([A-Z]{6})\.", said)[1]
    assert "Only this computer can join." in said
    place = SimpleNamespace(port=int(instructor[1]))
    assert ask(place, "/join", {"code": code}).status == 200
    state = ask(place, "/room/state", Authorization=f"Bearer {instructor[2]}").said
    assert state["joined"] == 1
    assert state["titles"] == list(poll.LEVELS)
    program.send_signal(signal.SIGTERM)
    program.send_signal(signal.SIGTERM)  # twice is once
    rest, _ = program.communicate(timeout=30)
    assert rest == "\nThe poll has ended. Nothing of it was kept.\n"
    assert program.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_rounds_hold_what_the_readers_say_and_two_cards_that_make_one_think():
    asked = poll.rounds()
    assert [one["title"] for one in asked] == list(poll.LEVELS)
    clean, noisy, _, smudged = asked
    assert clean["g"] == noisy["g"] != smudged["g"]
    assert clean["f"] == smudged["f"] != noisy["f"]
    for one in asked:
        assert len(one["f"]) == len(one["g"]) == len(one["m"]) == 100
        picture, message = one["cards"]
        assert abs(picture["f"] - picture["m"]) < abs(picture["g"] - picture["m"])
        assert abs(message["g"] - message["m"]) < abs(message["f"] - message["m"])
        assert len(json.dumps(one["cards"])) < 60_000
    assert "____" in "".join(card["message"] for card in smudged["cards"])
