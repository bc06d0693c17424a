#!/usr/bin/env python3
"""Gives exported shaders to a headless Chromium, whose WGSL compiler is Tint, and prints its verdict.

Usage: check.py BUNDLE, a file of `cargo run --example export_shaders`. Exits 0 if every shader
compiled and every row agreed with the reference, else 1.
"""

import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

# The whole check takes minutes on two cores, one pipeline seconds; a browser that hangs says nothing at all.
SILENCE_S = 300
PAGES = pathlib.Path(__file__).parent
FLAGS = [
    "--headless",
    "--disable-dev-shm-usage",
    "--disable-gpu-sandbox",
    "--disable-background-networking",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the page and the bundle, prints the lines that come back."""

    bundle = b""
    failures = None
    silent_s = 0
    done = threading.Event()

    def do_GET(self):
        files = {"/": ("index.html", "text/html"), "/check.js": ("check.js", "text/javascript")}
        if self.path == "/bundle.json":
            self.answer(200, self.bundle, "application/json")
        elif self.path in files:
            name, kind = files[self.path]
            self.answer(200, (PAGES / name).read_bytes(), kind)
        else:
            self.answer(404, b"", "text/plain")

    def do_POST(self):
        Handler.silent_s = 0
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/line":
            print(body, flush=True)
        elif self.path == "/done":
            Handler.failures = body["failures"]
        self.answer(200, b"", "text/plain")
        if self.path == "/done":
            Handler.done.set()

    def answer(self, code, body, kind):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are no result."""


def browse(chromium, url, folder):
    """Opens the page and waits for its verdict; gives what the browser wrote to stderr."""
    flags = [*FLAGS, f"--user-data-dir={folder}"]
    # Chromium refuses to run its sandbox as root, which CI is; the page is our own.
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    log = pathlib.Path(folder) / "stderr.log"
    with log.open("wb") as stderr:
        browser = subprocess.Popen(
            [chromium, *flags, url],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            # Its helper processes have to end with it.
            start_new_session=True,
        )
        try:
            while not Handler.done.wait(1) and browser.poll() is None:
                Handler.silent_s += 1
                if Handler.silent_s > SILENCE_S:
                    break
        finally:
            try:
                os.killpg(browser.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            browser.wait()
    return log.read_text(errors="replace")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Handler.bundle = pathlib.Path(sys.argv[1]).read_bytes()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("there is no chromium")
    # Loopback, because WebGPU is for secure contexts only.
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        errors = browse(chromium, f"http://127.0.0.1:{server.server_port}/", folder)
    if Handler.failures is None:
        print(errors, file=sys.stderr)
        sys.exit("the browser ended or hung without a verdict")
    if Handler.failures:
        sys.exit(f"{Handler.failures} failures")


if __name__ == "__main__":
    main()
