"""`mbm-lab playground`: α and β as a page of its own, for the projector and for a telephone."""

from __future__ import annotations

import base64
import json
import signal
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from torch import Tensor

from mbm_lab import lab
from mbm_lab.widgets.playground import HERE, FusionPlayground

LEVELS = [round(0.05 * step, 2) for step in range(17)]
"""The settings of picture noise and of word dropout."""


def page() -> str:
    """The playground as one HTML file that needs neither Python nor the internet.

    It holds the first 100 test cards, and what the readers say of them at every setting of picture
    noise and of word dropout.
    """
    playground = FusionPlayground()
    read = [playground.witnesses.read(level, level) for level in LEVELS]
    cards = {name: getattr(playground, name) for name in ("captions", "messages", "words")}
    cards["m"] = _rounded(playground.m)
    cards["sprite"] = base64.b64encode(playground.sprite).decode()
    cards["f"], cards["g"] = (
        [_rounded(one) for one in levels] for levels in zip(*read, strict=True)
    )
    html = (HERE / "playground.html").read_text(encoding="utf-8")
    parts = {
        "/* playground.css */": (HERE / "playground.css").read_text(encoding="utf-8"),
        "/* playground.js */": (HERE / "playground.js").read_text(encoding="utf-8"),
        '"the cards"': json.dumps(cards, ensure_ascii=False).replace("<", "\\u003c"),
    }
    for place, content in parts.items():
        html = html.replace(place, content)
    return html


def _rounded(values: Tensor) -> list[float]:
    """A tensor's numbers, short enough to be written down, and exact enough for v to 1e-6."""
    return [round(value, 8) for value in values.tolist()]


def serve(port: int | None = None, ip: str = "127.0.0.1", browser: bool = True) -> int:
    """Serves the page until Ctrl+C, and opens a browser if there is a screen.

    port: the port to serve on; None takes the first free one from 8888. ip: the address to serve
    on; `0.0.0.0` lets other computers in, too. Returns the exit status. Raises ValueError when the
    port is taken.
    """
    port = lab.choose_port(port, ip)
    print("The readers read 100 postcards, clean and made worse ...", flush=True)
    content = page().encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing of each visit."""

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as politely as on Ctrl+C
    class Server(ThreadingHTTPServer):
        address_family = lab.family(ip)

    if lab.is_everywhere(ip):
        print("Anybody in your network can open this page. Without --ip only this computer can.")
    with Server((ip, port), Handler) as server:
        address = f"http://{lab.in_url(ip)}:{port}/"
        print("\nThe page is at this address; if no browser shows it, open it yourself:")
        print(f"\n    {address}\n\nPress Ctrl+C here to end.", flush=True)
        if browser and lab.has_screen():
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nThe page has ended.")
    return 0
