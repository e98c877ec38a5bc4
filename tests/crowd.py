"""A room full of telephones: how long a poll's answers take when a hundred ask at once.

    python -m tests.crowd --clients 100 --seconds 20

starts `mbm-lab poll`, lets that many clients join, answer and ask for news, as the page does, and
prints how long they waited.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Waits:
    """The seconds that each request took, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def share(self, of: float) -> float:
        """The wait that this share of all requests did not exceed."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(of * len(self.seconds)))]

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} requests, {len(self.faults)} faults; median "
            f"{1000 * self.share(0.5):.0f} ms, 95 % within {1000 * self.share(0.95):.0f} ms, "
            f"worst {1000 * max(self.seconds):.0f} ms"
        )


async def telephone(number: int, address: str, code: str, seconds: float, waits: Waits) -> None:
    """Joins, reads the page and its parts, answers three times, and asks for news."""
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    cookie = ""

    async def ask(path: str, send: dict | None = None) -> dict:
        nonlocal cookie
        body = json.dumps(send).encode() if send is not None else b""
        head = [f"{'POST' if send else 'GET'} {path} HTTP/1.1", f"Host: {place.netloc}"]
        head += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if send else []
        head += [f"Cookie: {cookie}"] if cookie else []
        start = time.perf_counter()
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", answer)
        content = await reader.readexactly(int(length[1])) if length else b""
        waits.seconds.append(time.perf_counter() - start)
        if not answer.startswith("HTTP/1.1 20"):
            waits.faults.append(f"{path}: {answer.splitlines()[0]} {content.decode()}")
        found = re.search(r"Set-Cookie: ([^;]+)", answer)
        cookie = found[1] if found else cookie
        return json.loads(content) if content[:1] == b"{" else {}

    try:
        for path in ("/", "/poll.css", "/playground.css", "/poll.js", "/playground.js"):
            await ask(path)
        await ask("/join", {"code": code})
        news, seen = await ask("/state?seen=null"), 0
        end = time.perf_counter() + seconds
        for k in range(3):
            point = {"alpha": (number % 10) / 10, "beta": k / 10, "round": news["round"]}
            await ask("/answer", point)
            await asyncio.sleep(0.3)
        while time.perf_counter() < end:
            seen = (await ask(f"/state?seen={seen}")).get("version", seen)
            await asyncio.sleep(1.2)
    except (OSError, EOFError) as error:
        waits.faults.append(repr(error))
    writer.close()


async def crowd(address: str, code: str, clients: int, seconds: float) -> Waits:
    """What so many telephones waited, in so many seconds."""
    waits = Waits()
    await asyncio.gather(*(telephone(k, address, code, seconds, waits) for k in range(clients)))
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    command = [sys.executable, "-m", "mbm_lab", "poll", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        for line in server.stdout:
            said += line
            if "Ctrl+C" in line:
                break
        address, code = re.search(r"join at (\S+) with the code (\w+)", said).groups()
        waits = asyncio.run(crowd(address, code, options.clients, options.seconds))
        print(f"{options.clients} telephones, {options.seconds:g} s: {waits}")
        print("\n".join(waits.faults[:5]))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
