"""The classroom's server: who may come in, what each may use and see, and that it holds."""

import asyncio
import contextlib
import json
import math
import os
import pwd
import stat
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

pytest.importorskip("jupyterhub", reason="JupyterHub is not installed: make test installs it")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the hub runs on Linux")

import zmq  # noqa: E402
from cryptography import x509  # noqa: E402
from tornado.websocket import websocket_connect  # noqa: E402

from workshop import (  # noqa: E402
    accounts,
    certificate,
    hub,
    hub_settings,
    limits,
    proxy,
    rehearse,
    seats,
)

ROOT = os.geteuid() == 0
CODE, SECRET = "postcard-7", "teach-me-now"
VARIABLES = {"MBM_HUB_CODE": CODE, "MBM_HUB_PASSWORD": SECRET}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Accounts in a file of this test, hashed quickly; "old" has files from before."""
    monkeypatch.setitem(accounts.SCRYPT, "n", 16)
    return accounts.Accounts(tmp_path / "accounts.json", lambda name: name == "old")


@pytest.fixture
def door(store):
    return accounts.Door(store, CODE, SECRET)


# Who may come in


def test_a_learner_signs_up_once_with_the_code_and_then_needs_only_the_password(door):
    assert door.enter("ann", "my own words", CODE, "10.0.0.2") == "ann"
    assert door.enter("ann", "my own words", "", "10.0.0.2") == "ann"
    assert door.enter(" Ann ", "my own words", "wrong code", "10.0.0.3") == "ann"
    assert door.enter("ben", "my own words", f" {CODE.upper()} ", "10.0.0.3") == "ben"


@pytest.mark.parametrize(
    ("name", "password", "code", "said"),
    [
        ("ann", "not her words", "", "not the password"),
        ("ann", "not her words", CODE, "not the password"),  # the code opens no known name
        ("ann", "", CODE, "not the password"),
        ("ben", "my own words", "", "Nobody has this name yet.*room's code"),
        ("ben", "my own words", "  ", "Nobody has this name yet"),
        ("ben", "my own words", "postcard", "not the room's code"),
        ("ben", "my own words", SECRET, "not the room's code"),
        ("ben", "seven77", CODE, "8 to 200 characters.*longer"),
        ("ben", "x" * 201, CODE, "at most 200 characters.*shorter"),
        ("old", "my own words", CODE, "taken"),
        ("instructor", "my own words", CODE, "not the password"),
        ("instructor", CODE, CODE, "not the password"),
    ],
)
def test_everyone_else_stays_outside(door, name, password, code, said):
    door.enter("ann", "my own words", CODE, "here")
    with pytest.raises(ValueError, match=said):
        door.enter(name, password, code, "here")
    assert set(door.accounts.known()) == {"ann"}
    assert door.enter("ann", "my own words", "", "here") == "ann"


def test_the_instructor_needs_the_instructors_password_and_no_account(door):
    assert door.enter("instructor", SECRET, "", "here") == accounts.INSTRUCTOR
    assert door.accounts.known() == {}


@pytest.mark.parametrize(
    "name",
    ["", "a", "-ann", "ann-", "an--n", "1ann", "ann b", "ann/../ben", "änn", "ann\n", "x" * 21]
    + ["root", "admin", "hub", "instructor", "ann;id", "$(id)", "ann:x", "..", "ann_b", "\u0430nn"],
)
def test_a_name_that_could_be_something_else_is_refused(store, name):
    with pytest.raises(ValueError, match=r"A name has 2 to 20|reserved"):
        store.claim(name, "my own words")
    assert not store.file.exists()


def test_of_two_who_claim_a_name_at_once_one_gets_it(store):
    got = []

    def claim(password):
        with contextlib.suppress(ValueError):
            store.claim("ann", password)
            got.append(password)

    threads = [threading.Thread(target=claim, args=(f"password {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert store.has("ann", got[0])


def test_passwords_are_stored_hashed_with_salts_where_only_the_owner_reads(store):
    store.claim("ann", "the same words")
    store.claim("ben", "the same words")
    text = store.file.read_text()
    assert "same words" not in text
    ann, ben = (json.loads(text)[name] for name in ("ann", "ben"))
    assert ann["salt"] != ben["salt"]
    assert ann["hash"] != ben["hash"]
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    assert [path.name for path in store.file.parent.iterdir()] == ["accounts.json"]


def test_who_forgot_a_password_gets_another_one_and_keeps_the_name(store):
    store.claim("ann", "the old words")
    store.change("ann", "the new words")
    assert store.has("ann", "the new words")
    assert not store.has("ann", "the old words")
    with pytest.raises(ValueError, match="Nobody is called ben"):
        store.change("ben", "the new words")


def test_a_name_can_be_given_back(store):
    store.claim("ann", "the old words")
    store.remove("ann")
    assert store.known() == {}
    with pytest.raises(ValueError, match="Nobody is called ann"):
        store.remove("ann")
    store.claim("ann", "the new words")


def test_a_damaged_file_of_accounts_lets_nobody_in_and_is_kept(store):
    store.file.write_text("[1, 2")
    with pytest.raises(ValueError, match="damaged"):
        store.claim("ann", "my own words")
    assert store.file.read_text() == "[1, 2"


def test_guessing_a_password_or_the_code_soon_has_to_wait(door):
    now = [0.0]
    for tries in (door.here, door.anywhere):
        tries.clock = lambda: now[0]
    door.enter("ann", "my own words", CODE, "home")
    for guess in range(10):
        with pytest.raises(ValueError, match="not the password"):
            door.enter("ann", f"my own guess {guess}", "", "elsewhere")
    with pytest.raises(ValueError, match="wait five minutes"):
        door.enter("ann", "my own words", "", "elsewhere")  # even the right one
    assert door.enter("ann", "my own words", "", "home") == "ann"  # nobody else is locked out
    now[0] = 301.0
    assert door.enter("ann", "my own words", "", "elsewhere") == "ann"
    for guess in range(100):  # from ever other addresses
        with pytest.raises(ValueError, match="not the room's code"):
            door.enter(f"new{guess}", "my own words", "guess", f"10.0.0.{guess}")
    with pytest.raises(ValueError, match="wait five minutes"):
        door.enter("cleo", "my own words", CODE, "home")
    assert door.enter("ann", "my own words", "", "home") == "ann"


# What must be set


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"MBM_HUB_CODE": ""}, "MBM_HUB_CODE must be set.*chmod 600"),
        ({"MBM_HUB_PASSWORD": ""}, "MBM_HUB_PASSWORD must be set"),
        ({"MBM_HUB_CODE": "", "MBM_HUB_PASSWORD": ""}, "MBM_HUB_CODE and MBM_HUB_PASSWORD must"),
        ({"MBM_HUB_CODE": "abc"}, "6 characters or more"),
        ({"MBM_HUB_PASSWORD": "1234567"}, "8 characters or more"),
        ({"MBM_HUB_ADDRESS": "0.0.0.0"}, "in the open: make a certificate"),
        ({"MBM_HUB_ADDRESS": "192.168.1.5"}, "in the open: make a certificate"),
        ({"MBM_HUB_ADDRESS": "classroom.example.org"}, "in the open: make a certificate"),
        ({"MBM_HUB_ADDRESS": "::"}, "serves IPv4 addresses only"),
        ({"MBM_HUB_CERTIFICATE": __file__}, "HTTPS needs both"),
        ({"MBM_HUB_KEY": __file__}, "HTTPS needs both"),
        ({"MBM_HUB_KEY": "/not/there.pem"}, "/not/there.pem, which is not there"),
        ({"MBM_HUB_PORT": "80.5"}, "MBM_HUB_PORT is '80.5'.*1 to 65535"),
        ({"MBM_HUB_PORT": "70000"}, "1 to 65535"),
        ({"MBM_HUB_MEMORY_MB": "-1"}, "300 to"),
        ({"MBM_HUB_KERNELS": "0"}, "1 to 100"),
        ({"MBM_HUB_FOLDER": str(hub_settings.place.COURSE / "x")}, "cannot lie in the course"),
    ],
)
def test_the_hub_refuses_to_start_unsafely_and_says_what_to_do(tmp_path, change, said):
    standard = {"MBM_HUB_FOLDER": str(tmp_path)} | VARIABLES
    assert hub_settings.read(standard, root=True).address == "127.0.0.1"
    with pytest.raises(ValueError, match=said):
        hub_settings.read(standard | change, root=True)


def test_only_roots_hub_with_https_opens_to_other_computers(tmp_path):
    https = {"MBM_HUB_CERTIFICATE": __file__, "MBM_HUB_KEY": __file__}
    asked = {"MBM_HUB_FOLDER": str(tmp_path), "MBM_HUB_ADDRESS": "10.0.0.5"} | VARIABLES | https
    assert hub_settings.read(asked, root=True).url == "https://10.0.0.5:8000"
    with pytest.raises(ValueError, match="needs root.*can read each other's files"):
        hub_settings.read(asked, root=False)
    for address in ("localhost", "127.0.0.1", "127.8.9.1"):
        assert not hub_settings.read(asked | {"MBM_HUB_ADDRESS": address}, root=False).root


def test_the_secrets_may_stand_in_a_file_that_nobody_else_reads(tmp_path):
    file = tmp_path / "secrets"
    file.write_text(f"# for Monday\nMBM_HUB_CODE = {CODE}\nMBM_HUB_PASSWORD={SECRET}\n")
    file.chmod(0o640)
    where = {"MBM_HUB_FOLDER": str(tmp_path)}
    with pytest.raises(ValueError, match="Others may read .*chmod 600"):
        hub_settings.read(where)
    file.chmod(0o600)
    settings = hub_settings.read(where)
    assert (settings.code, settings.password) == (CODE, SECRET)
    assert SECRET not in repr(settings)
    assert CODE not in repr(settings)


def test_make_hub_says_in_one_sentence_what_is_missing(tmp_path, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("MBM_HUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MBM_HUB_FOLDER", str(tmp_path))
    monkeypatch.setattr(hub, "end_when_asked", lambda: None)
    assert hub.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("MBM_HUB_CODE and MBM_HUB_PASSWORD must be set")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_told_before_anything_starts(tmp_path):
    with hub_settings.socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environ = VARIABLES | {"MBM_HUB_FOLDER": str(tmp_path), "MBM_HUB_PORT": str(port)}
        with pytest.raises(ValueError, match="Another program serves .*MBM_HUB_PORT"):
            hub.check(hub_settings.read(environ))


def test_a_certificate_of_ones_own_names_its_addresses_and_is_never_overwritten(tmp_path):
    made, key, fingerprint = certificate.make(["10.0.0.5", "teacher.local"], tmp_path)
    read = x509.load_pem_x509_certificate(made.read_bytes())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["10.0.0.5", "teacher.local"]
    assert read.fingerprint(hub_hash()).hex() == fingerprint.replace(":", "").lower()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = made.read_bytes(), key.read_bytes()
    with pytest.raises(OSError, match="is there already"):
        certificate.make(["10.0.0.6"], tmp_path)
    assert (made.read_bytes(), key.read_bytes()) == before
    with pytest.raises(ValueError, match="Name the address"):
        certificate.make([], tmp_path)


def hub_hash():
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


# How much each may use


@pytest.fixture
def program():
    """Starts a small Python program as a learner's kernel; ends all of them afterwards."""
    started = []

    def start(learner: str, code: str) -> subprocess.Popen:
        environ = os.environ | {limits.LEARNER: learner}
        command = [sys.executable, "-S", "-c", code]
        process = subprocess.Popen(
            command, env=environ, start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        process.stdout.readline()  # it is ready
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def hold_memory(megabytes: int) -> str:
    return f"import time; x = bytearray({megabytes}_000_000); print('ready', flush=True)\n" + (
        "time.sleep(60)"
    )


def test_the_guard_ends_the_largest_kernel_of_who_holds_too_much_and_no_other(program):
    small, large = (program("guarded-ann", hold_memory(mb)) for mb in (30, 60))
    other = program("guarded-ben", hold_memory(60))
    assert limits.Guard(150_000_000).look() == []
    said = limits.Guard(80_000_000).look()
    assert len(said) == 1
    assert said[0].startswith("guarded-ann held")
    assert large.wait(5) == -9
    assert small.poll() is None
    assert other.poll() is None


def test_memory_that_programs_share_counts_once(program):
    """Three forks share 60 MB: that is 60 MB, not 240."""
    code = (
        "import os, time; x = bytearray(60_000_000)\n"
        "if os.fork() and os.fork() and os.fork(): print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    forks = program("sharing-ann", code)
    assert limits.Guard(110_000_000).look() == []
    limits.Guard(40_000_000).look()
    assert forks.wait(5) == -9
    assert "sharing-ann" not in limits.learners()


def test_each_process_gets_a_memory_error_before_it_harms(tmp_path):
    code = "x = []\ntry:\n  while len(x) < 100: x.append(bytearray(10_000_000))\n"
    code += "except MemoryError: print('MemoryError', len(x))"
    command = [sys.executable, "-S", "-c", code]
    hold = limits.hold(300_000_000, unix_user=False)
    done = subprocess.run(command, preexec_fn=hold, capture_output=True, text=True)
    assert done.stdout.startswith("MemoryError 2")  # after 200 and something megabytes


def test_what_computes_for_long_is_made_to_wait_until_it_rests(monkeypatch):
    sessions = {1: limits.Session(1, [77]), 2: limits.Session(2, [78], server=True)}
    computed, nice = {77: 0.0, 78: 0.0}, {}
    monkeypatch.setattr(limits, "cpu_seconds", computed.get)
    monkeypatch.setattr(limits, "_be_nice", lambda pid, value: nice.update({pid: value}))
    guard = limits.Guard(10**9)
    for second in range(0, 200, 6):
        guard._slow_down({"ann": sessions}, float(second))
        assert nice == ({} if second < limits.LONG else {77: limits.WAITS})
        computed[77] += 6.0
        computed[78] += 6.0  # a server serves everyone; it is never slowed down
    for second in (210, 220):
        guard._slow_down({"ann": sessions}, float(second))
    assert nice == {77: 0}


@pytest.mark.skipif(not ROOT, reason="only root can start programs as somebody else")
def test_a_fork_bomb_finds_no_room_and_is_ended(monkeypatch):
    monkeypatch.setattr(limits, "THREADS", 40)
    uid = 200_000 + int.from_bytes(os.urandom(2), "big")  # nobody's
    become = seats.as_user(uid, uid, None, limits.hold(300_000_000, unix_user=True))
    bomb = "i=0; while [ $i -lt {} ]; do sleep 30 & i=$((i+1)); done; echo all; wait"
    options = {"preexec_fn": become, "start_new_session": True, "text": True, "cwd": "/"}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    guard = limits.Guard(10**9, lambda: {uid: "bomber"}, processes=20)
    try:
        with subprocess.Popen(["/bin/sh", "-c", bomb.format(30)], **options) as small:
            assert small.stdout.readline() == "all\n"
            assert guard.look() == [
                "bomber had 31 processes: the program that made most was ended."
            ]
            assert small.wait(5) == -9
        with subprocess.Popen(["/bin/sh", "-c", bomb.format(200)], **options) as large:
            assert "fork" in large.stderr.readline()
            assert sum(len(s.pids) for s in limits.learners({uid: "x"})["x"].values()) <= 40
            seats.end_all(uid)
    finally:
        seats.end_all(uid)
    assert limits.learners({uid: "bomber"}) == {}


# What is said about a rehearsal


def test_the_report_gives_median_and_worst_and_every_failure():
    seen = [
        rehearse.Account("ann", 1.0, 10.0, 500_000_000, 20.0),
        rehearse.Account("ben", 2.0, 20.0, 600_000_000, 21.0),
        rehearse.Account("cleo", 9.0, 30.0, 700_000_000, 22.0),
        rehearse.Account("dan", 3.0, math.nan, 1, 99.0, fate="looped for 5 s"),
    ]
    text = rehearse.report(seen, "04")
    assert "4 learners at once" in text
    rows = [line.split() for line in text.splitlines()]
    assert [row[-2:] for row in rows if row and row[0] in ("seconds", "MB")] == [
        ["2", "9"],
        ["20", "30"],
        ["600", "700"],
        ["21", "22"],
    ]
    assert "dan: looped for 5 s." in text
    assert "failures: 0" in text
    seen[1].failures.append("cell 3: ValueError: no")
    assert "failures: 1\nben: cell 3: ValueError: no" in rehearse.report(seen, "04")


def test_the_sizing_table_computes_what_was_not_measured_and_says_so():
    seen = [rehearse.Account(f"r{i}", 1.0, 100.0, 500_000_000, 12.0) for i in range(12)]
    rows = rehearse.sizing(seen, base=1_000_000_000, cores=2, lesson="04").splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        ["12", "8 GB", "100 s", "2", "measured"],  # 1 + 1 + 12 · 0.5; 12 · 12 / 120, rounded up
        ["30", "17 GB", "180 s", "3", "computed"],
        ["100", "52 GB", "600 s", "10", "computed"],
    ]


# The hub itself

NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "id": f"c{i}"}
        | {"execution_count": None}
        for i, source in enumerate(
            ["from mbm_lab import place\nplace.HOME", "1 + 1", "print(2)", "'the end'"]
        )
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class ShortLesson(rehearse.Learner):
    """A learner with a lesson of four cells, who keeps a password once it is known."""

    passwords: dict = {}

    def __init__(self, name, url, trusting=None):
        super().__init__(name, url, trusting)
        self.password = self.passwords.setdefault(name, self.password)

    async def open(self, lesson):
        path = f"{self.home}/api/contents/my_lessons/{lesson}.ipynb"
        await self.ask(path, "PUT", {"type": "notebook", "content": NOTEBOOK})
        return await super().open(lesson)

    async def status(self, path, method="GET", body=None):
        return (await asyncio.to_thread(self.browser.ask, path, method, body))[0]

    async def type_in_terminal(self, command, end):
        """Types into a terminal of one's own; returns all that it shows until `end` comes."""
        name = (await self.ask(f"{self.home}/api/terminals", "POST", {}))["name"]
        path = f"{self.home}/terminals/websocket/{name}"
        query = urllib.parse.urlencode({"_xsrf": self.browser.xsrf(path)})
        request = rehearse.HTTPRequest(
            f"ws{self.browser.url.removeprefix('http')}{path}?{query}",
            headers={"Cookie": self.browser.cookies(path), "Origin": self.browser.url},
            ssl_options=self.browser.context,
        )
        socket = await websocket_connect(request)
        await socket.write_message(json.dumps(["stdin", command + "\r"]))
        shown = ""
        with contextlib.suppress(asyncio.TimeoutError):
            while end not in shown:
                kind, *text = json.loads(await asyncio.wait_for(socket.read_message(), 20))
                shown += text[0] if kind == "stdout" else ""
        socket.close()
        return shown


@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="only root can give each learner a Unix user")
def test_the_hub_keeps_learners_apart_and_one_ones_mistakes_from_the_others(
    monkeypatch, capsys, tmp_path
):
    try:
        proxy.install()
    except OSError as error:
        with capsys.disabled():
            print(f"\nTHE HUB IS NOT TESTED: {error}")
        pytest.skip(str(error))
    monkeypatch.setattr(rehearse, "Learner", ShortLesson)
    names = rehearse.learner_names(3)
    made, key, _ = certificate.make(["127.0.0.1"], tmp_path)
    variables = VARIABLES | {"MBM_HUB_MEMORY_MB": "450", "MBM_HUB_KERNELS": "2"}
    variables |= {"MBM_HUB_CERTIFICATE": str(made), "MBM_HUB_KEY": str(key)}
    with rehearse.own_hub(names, **variables) as running:
        folder = running.settings.folder
        url = running.settings.url
        assert url.startswith("https://127.0.0.1:")
        asyncio.run(_keeps_apart(running.settings, names))
        visit = rehearse.rehearse(url, CODE, "short", names, True, True, str(made))
        both = asyncio.run(visit)
        assert [account.failures for account in both] == [[], [], []]
        assert both[0].done > both[0].first_cell > 0
        assert both[1].fate.startswith("looped for")
        assert "KeyboardInterrupt" in both[1].fate
        assert "its kernel was ended" in both[2].fate
        assert "a new one answered" in both[2].fate
        assert 50e6 < both[0].memory < 450e6
        log = running.log.read_text()
    assert "Traceback" not in log
    assert CODE not in log
    assert SECRET not in log
    assert not folder.exists()
    assert running.process.poll() is not None
    for name in names:
        with pytest.raises(KeyError):
            pwd.getpwnam(hub_settings.PREFIX + name)
    assert not set(names) & set(limits.learners())


async def _keeps_apart(settings, names):
    """Doors that must be shut are tried, and those that must open."""
    trusting = str(settings.certificate)
    ann, ben, cleo = (ShortLesson(name, settings.url, trusting) for name in names)
    assert await ann.sign_in() == 403
    assert b"type the room&#39;s code" in ann.page
    assert await ann.sign_in("no code of it") == 403
    assert b"not the room&#39;s code" in ann.page
    assert await ann.sign_in(CODE) == 200
    thief = ShortLesson(names[0], settings.url, trusting)
    assert await thief.sign_in(CODE, password="another one") == 403
    assert b"not the password" in thief.page
    forged = ShortLesson(
        names[2], settings.url, trusting
    )  # a form that was not made by the login page
    forged.browser.xsrf = lambda path: "forged"
    assert await forged.sign_in(CODE) == 403
    assert await ben.sign_in(CODE) == 200
    assert set(json.loads((settings.private / "accounts.json").read_text())) == set(names[:2])

    # A learner's password is not stored in the open, and nothing private can be read.
    assert stat.S_IMODE(settings.private.stat().st_mode) == 0o700
    for name in names[:2]:
        assert await (ann if name == names[0] else ben).status("/hub/admin") == 403

    assert await cleo.sign_in(CODE) == 200
    await asyncio.gather(ann.start_server(), ben.start_server(), cleo.start_server())
    await asyncio.gather(ann.open("short"), ben.open("short"))
    secret = f"the secret of {ben.name}"
    await ben.run(f"open('secret.txt', 'w').write({secret!r}); open('/tmp/' + {ben.name!r}, 'w')")
    (Path("/tmp") / ben.name).unlink()
    file = settings.homes / ben.name / "my_lessons" / "secret.txt"
    assert file.read_text() == secret
    assert stat.S_IMODE((settings.homes / ben.name).stat().st_mode) == 0o700

    # By listening to what goes between a server and its kernel.
    found = (settings.homes / ben.name).glob(".local/share/jupyter/runtime/kernel-*.json")
    told = json.loads(next(found).read_text())
    with zmq.Context() as context, context.socket(zmq.SUB) as ear:
        ear.linger = 0
        ear.subscribe(b"")
        ear.connect(f"tcp://127.0.0.1:{told['iopub_port']}")
        await asyncio.sleep(0.3)
        await ben.run("print('for ben alone')")
        assert ear.poll(300) == 0

    # By the file browser: one's own server does not leave its folder, and another's is shut.
    for path in (f"../{ben.name}/my_lessons/secret.txt", f"..%2F{ben.name}%2Fmy_lessons"):
        assert await ann.status(f"{ann.home}/api/contents/{path}") in (403, 404)
        assert await ann.status(f"{ann.home}/files/{path}") in (403, 404)
    assert await ben.status(f"{ben.home}/api/contents/my_lessons/secret.txt") == 200
    for path in ("api/contents/my_lessons/secret.txt", "files/my_lessons/secret.txt", "lab"):
        assert await ann.status(f"{ben.home}/{path}") in (403, 404)
    assert await ann.status(f"{ben.home}/api/kernels/{ben.kernel}/channels") in (403, 404)

    # By the kernel: neither the file, nor its folder, nor the hub's, nor another's processes.
    reply = await ann.run(
        f"""
import os, signal, subprocess, pathlib
home = pathlib.Path({str(settings.homes / ben.name)!r})
def attempt(what):
    try:
        print("DONE", what())
    except OSError as error:
        print(type(error).__name__)
attempt(lambda: open({str(file)!r}).read())
attempt(lambda: os.listdir(home))
attempt(lambda: os.listdir({str(settings.homes)!r}))
attempt(lambda: os.symlink(home, "link") or os.listdir("link"))
attempt(lambda: os.listdir({str(settings.private)!r}))
attempt(lambda: open("/etc/shadow").read())
attempt(lambda: os.kill({running_pid(ben.name)}, signal.SIGTERM))
attempt(lambda: open("/proc/{running_pid(ben.name)}/environ").read())
attempt(lambda: open({str(hub_settings.place.COURSE / "mbm_lab" / "fusion.py")!r}, "a"))
attempt(lambda: open({str(hub_settings.place.COURSE / "strange.txt")!r}, "w"))
attempt(lambda: os.setuid(0))
print(os.environ.get("MBM_HUB_CODE"), os.environ.get("MBM_HUB_PASSWORD"), os.getuid() == 0)
"""
    )
    assert reply["status"] == "ok", reply
    assert "DONE" not in reply["printed"], reply["printed"]
    assert reply["printed"].splitlines()[-1] == "None None False"
    assert len(reply["printed"].splitlines()) == 12

    # By a terminal.
    shown = await ann.type_in_terminal(f"cat {file}; id -un; echo the-''end", "the-end")
    assert f"{hub_settings.PREFIX}{ann.name}" in shown
    assert "Permission denied" in shown
    assert secret not in shown

    # By the hub's API: nothing of another's, and nothing of the hub's.
    for path in ("", "/tokens", "/server/progress"):
        assert await ann.status(f"/hub/api/users/{ben.name}{path}") in (403, 404)
    assert await ann.status(f"/hub/api/users/{ben.name}/tokens", "POST", {}) in (403, 404)
    assert await ann.status(f"/hub/api/users/{ben.name}/server", "DELETE") in (403, 404)
    assert await ann.status("/hub/api/users") == 403
    assert await ben.status(f"{ben.home}/api/kernels") == 200  # still there
    for learner in (ann, ben):
        assert await learner.status(f"{learner.home}/api/kernels", "POST", {}) == 201
        assert await learner.status(f"{learner.home}/api/kernels", "POST", {}) == 429
        for kernel in await learner.ask(f"{learner.home}/api/kernels"):
            await learner.ask(f"{learner.home}/api/kernels/{kernel['id']}", "DELETE")
        rehearsed = rehearse.Account(learner.name)
        rehearse.measure([rehearsed])
        assert rehearsed.memory > 0


def running_pid(name: str) -> int:
    """A process of this learner."""
    user = pwd.getpwnam(hub_settings.PREFIX + name)
    found = limits.learners({user.pw_uid: name})[name]
    return next(pid for session in found.values() for pid in session.pids)
