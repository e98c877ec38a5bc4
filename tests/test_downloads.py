"""downloads.py and `mbm-lab data`: what arrives, arrives whole, or one sentence says why not."""

import gzip
import hashlib
import io
import os
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mbm_lab import downloads
from mbm_lab.__main__ import main

FILES = {"one.gz": gzip.compress(b"one" * 5000), "two.gz": gzip.compress(os.urandom(50_000))}


class Server(BaseHTTPRequestHandler):
    """Serves the class's files, in the way that the address asks for: /cut/one.gz."""

    files = dict(FILES)
    asked = []
    stop_stalling = threading.Event()

    def do_GET(self):
        _, way, name = self.path.split("/")
        self.asked.append(name)
        data = self.files.get(name)
        if data is None or way == "missing":
            self.send_error(404)
            return
        if way == "lie":
            data = bytes(reversed(data))
        self.send_response(200)
        if way == "cut-chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = data[: len(data) // 2]
            self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if way in ("cut", "stall"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if way == "stall":
                self.stop_stalling.wait(20)
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.files, Server.asked = dict(FILES), []
    Server.stop_stalling.clear()
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    Server.stop_stalling.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of the data sets, in a path with spaces."""
    folder = tmp_path / "my data"
    monkeypatch.setenv("MBM_DATA_HOME", str(folder))
    return folder


@pytest.fixture
def small(server, monkeypatch):
    """Puts a small data set of two files in the place of MNIST; returns where it is served."""

    def serve(way: str = "well", name: str = "mnist", hashes=None) -> None:
        if hashes is None:
            hashes = {n: f"sha256:{hashlib.sha256(d).hexdigest()}" for n, d in FILES.items()}
        known = replace(
            downloads.DATA_SETS[name], address=f"{server}/{way}/", hashes=hashes, megabytes=1
        )
        monkeypatch.setitem(downloads.DATA_SETS, name, known)

    return serve


def yes(terms: str) -> bool:
    return True


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_data_set_arrives_whole_and_is_fetched_once(home, small):
    small()
    shown = []
    folder = downloads.get("mnist", lambda terms: shown.append(terms) or True)
    assert folder == home / "mnist" == downloads.path("mnist")
    assert "CC BY-SA 3.0" in shown[0]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == FILES
    assert everything_in(home) == ["mnist", "mnist/one.gz", "mnist/two.gz"]
    assert Server.asked == ["one.gz", "two.gz"]
    downloads.get("mnist", lambda terms: pytest.fail("it asked again"))
    assert len(Server.asked) == 2


def test_what_lies_there_is_used_as_it_is(home, small):
    small()
    (home / "mnist").mkdir(parents=True)
    (home / "mnist" / "one.gz").write_bytes(b"packed by somebody else")
    downloads.get("mnist", yes)
    assert Server.asked == ["two.gz"]
    assert (home / "mnist" / "one.gz").read_bytes() == b"packed by somebody else"


@pytest.mark.parametrize(
    ("way", "error", "sentence"),
    [
        ("cut", OSError, "could not be fetched whole"),
        ("cut-chunks", OSError, "could not be fetched whole"),
        ("stall", OSError, "the server stopped sending"),
        ("missing", OSError, "the server answered 404"),
        ("lie", ValueError, "is not the published file"),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_says_one_sentence(
    home, small, way, error, sentence, monkeypatch
):
    small(way)
    monkeypatch.setattr(downloads, "STALLED", 0.5)
    with pytest.raises(error, match=sentence) as caught:
        downloads.get("mnist", yes)
    assert str(home / "mnist") in str(caught.value)  # where a file fetched by hand belongs
    assert "\n" not in str(caught.value)
    assert everything_in(home) == []
    assert downloads.find("mnist") is None


def test_a_failure_in_the_second_file_takes_the_first_away_too(home, small):
    small()
    Server.files["two.gz"] = b"something else"
    with pytest.raises(ValueError, match="is not the published file"):
        downloads.get("mnist", yes)
    assert Server.asked == ["one.gz", "two.gz"]
    assert everything_in(home) == []


def test_no_network_is_one_sentence(home, small, monkeypatch, capsys):
    small()
    dead = replace(downloads.DATA_SETS["mnist"], address="http://127.0.0.1:9/")
    monkeypatch.setitem(downloads.DATA_SETS, "mnist", dead)
    assert main(["data", "get", "mnist", "--agree"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mbm-lab:")]
    assert len(said) == 1
    assert "http://127.0.0.1:9/one.gz" in said[0]
    assert f"with a browser into {home / 'mnist'}" in said[0]
    assert everything_in(home) == []


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path, small, monkeypatch):
    small()
    in_the_way = tmp_path / "a file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv("MBM_DATA_HOME", str(in_the_way / "data"))
    with pytest.raises(OSError, match="cannot be written .*MBM_DATA_HOME"):
        downloads.get("mnist", yes)
    assert in_the_way.read_text() == "not a folder"


def test_a_home_that_is_a_file_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MBM_DATA_HOME", str(tmp_path / "file"))
    for command in (["list"], ["path", "fsdd"], ["get", "fsdd", "--agree"]):
        assert main(["data", *command]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == (
            f"mbm-lab: {tmp_path / 'file'} is no folder: let MBM_DATA_HOME name a folder for data "
            "sets.\n"
        )


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_one_sentence(home, small):
    small()
    home.mkdir()
    home.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"cannot be written \(Permission denied\)"):
            downloads.get("mnist", yes)
    finally:
        home.chmod(0o700)


def test_a_full_disk_is_one_sentence(home, small, monkeypatch):
    small()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "replace", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)"):
        downloads.get("mnist", yes)
    assert not any(path.is_file() for path in home.rglob("*"))


def test_without_agreement_nothing_is_fetched(home, small, monkeypatch, capsys):
    small()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # nobody is there to answer
    assert main(["data", "get", "mnist"]) == 2
    out, err = capsys.readouterr()
    assert "Licence: CC BY-SA 3.0" in out
    assert "you did not agree" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert main(["data", "get", "mnist"]) == 0
    assert main(["data", "path", "mnist"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(home / "mnist")


# The recordings come as one archive without a published hash; each recording has one


@pytest.fixture
def recordings(small, tmp_path, monkeypatch):
    """Three recordings in an archive as GitHub makes them, and their list of hashes."""
    wavs = {f"{n}_theo_{n}.wav": os.urandom(100) for n in range(3)}
    listed = "".join(f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in wavs.items())
    file = tmp_path / "list.gz"
    file.write_bytes(gzip.compress(listed.encode()))
    monkeypatch.setattr(downloads, "RECORDINGS", file)

    def archive(**changed: bytes | None) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as out:
            out.writestr("free-spoken-26eb/README.md", "not a recording")
            for name, data in {**wavs, **{f"{k}.wav": v for k, v in changed.items()}}.items():
                if data is not None:
                    out.writestr(f"free-spoken-26eb/recordings/{name}", data)
        return packed.getvalue()

    small(name="fsdd", hashes={})
    known = downloads.DATA_SETS["fsdd"]
    address = known.address + "all.zip"
    monkeypatch.setitem(downloads.DATA_SETS, "fsdd", replace(known, address=address))
    return wavs, archive


def test_recordings_are_taken_out_of_the_archive(home, recordings):
    wavs, archive = recordings
    Server.files["all.zip"] = archive()
    folder = downloads.get("fsdd", yes)
    assert {p.name: p.read_bytes() for p in (folder / "recordings").iterdir()} == wavs
    assert everything_in(home) == ["fsdd", "fsdd/recordings", *(
        f"fsdd/recordings/{name}" for name in sorted(wavs))]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"1_theo_1": b"another"}, "1 of 3 recordings .* first is 1_theo_1.wav"),
        ({"1_theo_1": None, "2_theo_2": None}, "2 of 3 recordings"),
        ({"9_eve_0": b"one too many"}, "1 of 3 recordings .* first is 9_eve_0.wav"),
    ],
)
def test_changed_recordings_are_thrown_away(home, recordings, changed, sentence):
    Server.files["all.zip"] = recordings[1](**changed)
    with pytest.raises(ValueError, match=sentence):
        downloads.get("fsdd", yes)
    assert everything_in(home) == []


@pytest.mark.parametrize("data", [b"<html>Please log in</html>", b"", "half"])
def test_an_archive_that_is_none_is_thrown_away(home, recordings, data):
    whole = recordings[1]()
    Server.files["all.zip"] = whole[: len(whole) // 2] if data == "half" else data
    with pytest.raises(ValueError, match="not a whole zip archive"):
        downloads.get("fsdd", yes)
    assert everything_in(home) == []


def test_the_list_of_the_published_recordings_is_whole():
    lines = gzip.decompress(downloads.RECORDINGS.read_bytes()).decode().splitlines()
    assert len(lines) == 3000
    names = {line.split("  ")[1] for line in lines}
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    assert names == {f"{d}_{s}_{i}.wav" for d in range(10) for s in speakers for i in range(50)}


@pytest.mark.skipif(downloads.find("fsdd") is None, reason="needs the recordings")
def test_the_recordings_here_are_the_published_ones():
    lines = gzip.decompress(downloads.RECORDINGS.read_bytes()).decode().splitlines()
    folder = downloads.path("fsdd") / "recordings"
    for line in lines[::50]:
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.skipif(downloads.find("multi30k") is None, reason="needs Multi30k")
def test_the_sentences_here_are_the_published_ones():
    for file, published in downloads.DATA_SETS["multi30k"].hashes.items():
        data = (downloads.path("multi30k") / file).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == published


# Names and places


def test_an_unknown_name_is_one_sentence(capsys):
    assert main(["data", "get", "imagenet"]) == 2
    assert 'no data set "imagenet"' in capsys.readouterr().err


def test_flickr8k_is_never_fetched_by_a_program(home):
    with pytest.raises(ValueError, match="No program may fetch flickr8k: ask its authors"):
        downloads.get("flickr8k", lambda terms: pytest.fail("it asked"))
    with pytest.raises(FileNotFoundError, match="ask its authors"):
        downloads.path("flickr8k")


def test_flickr8k_is_known_by_its_numbers(home, capsys):
    folder = home / "flickr8k"
    (folder / "Images").mkdir(parents=True)
    (folder / "Images" / "a.jpg").write_bytes(b"")
    (folder / "captions.txt").write_text("image,caption\na.jpg,a dog .\na.jpg,a brown dog .\n")
    assert main(["data", "get", "flickr8k"]) == 0
    said = capsys.readouterr().out
    assert "1 of 8,091 photographs and 2 of 40,455 captions: a part" in said
    assert "no hash of it is published" in said


def test_the_table_says_what_is_here(home, small, capsys):
    small()
    downloads.get("mnist", yes)
    capsys.readouterr()
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["name", *downloads.DATA_SETS]
    assert lines[1].endswith(str(home / "mnist"))
    assert all(line.endswith("not here") for line in lines[2:5])


def test_without_a_home_of_its_own_data_lies_in_the_cache_directory(monkeypatch):
    monkeypatch.delenv("MBM_DATA_HOME", raising=False)
    assert downloads.home().name == "mbm-lab"
    assert downloads.home().is_absolute()
