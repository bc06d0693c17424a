"""A headless Chromium that is told what to do over the pipe of its DevTools protocol."""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

FLAGS = [
    "--headless",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}


class Chromium:
    """A browser with one page."""

    def __init__(self):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            raise SystemExit("there is no chromium")
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = [*FLAGS, f"--user-data-dir={self.folder.name}"]
        # Chromium refuses to run its sandbox as root, which CI is; the page is our own.
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()

        def place():
            # It reads commands from 3 and answers on 4; neither may be closed by the other's coming.
            reads, writes = os.dup(from_us), os.dup(to_us)
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self.process = subprocess.Popen(
            [program, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=place,
            close_fds=False,
            # Its helper processes have to end with it.
            start_new_session=True,
        )
        os.close(from_us)
        os.close(to_us)
        self.commands = os.fdopen(to_browser, "wb", buffering=0)
        self.answers = os.fdopen(from_browser, "rb", buffering=0)
        self.unread = b""
        self.next_id = 0
        # What the page complained of, and what it asked for.
        self.complaints = []
        self.requests = []
        target = self.ask("Target.createTarget", url="about:blank", session=None)["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True, session=None)
        self.session = attached["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.ask(f"{domain}.enable")

    session = None

    def close(self):
        """Ends it with all its helpers."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.folder.cleanup()

    def ask(self, method, session="", **params):
        """Sends a command; gives its result."""
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if session is not None and self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.next_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def read(self):
        while b"\0" not in self.unread:
            part = self.answers.read(1 << 16)
            if not part:
                raise SystemExit("the browser ended")
            self.unread += part
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url')}")

    # What a person does.

    def open(self, url):
        self.ask("Page.navigate", url=url)

    def shape(self, width, height, dark):
        """The window and the colours that the system prefers."""
        scheme = "dark" if dark else "light"
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])

    def type(self, text):
        self.ask("Input.insertText", text=text)

    def press(self, key, control=False):
        code = KEYS.get(key, ord(key.upper()[0]))
        common = {"key": key, "code": key if key in KEYS else f"Key{key.upper()}",
                  "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        self.ask("Input.dispatchKeyEvent", type="rawKeyDown", **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def point(self, selector, click=False):
        """Moves the mouse to the middle of an element."""
        box = self.value(
            f"(e => {{ e.scrollIntoView({{ block: 'center' }}); const r = e.getClientRects()[0];"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})"
            f"(document.querySelector({json.dumps(selector)}))")
        place = {"x": box[0], "y": box[1]}
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", **place)
        if click:
            for kind in ["mousePressed", "mouseReleased"]:
                self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    # What a person sees.

    def value(self, expression):
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, seconds=60):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                text = self.value("document.body.innerText")
                raise SystemExit(f"not in {seconds} s: {expression}\n{text}")
            time.sleep(0.05)

    def picture(self, path):
        size = self.value("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))
