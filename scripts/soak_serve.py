#!/usr/bin/env python3
"""Many clients at once ask `gpu-tlm serve`, and some hang up: nothing may get lost, mixed up or pile up.

Usage: soak_serve.py PROGRAM MODEL [SECONDS [CLIENTS]]
where MODEL is the folder of a run. By default 64 clients ask for 60 seconds. Needs Linux's /proc.

Each request was answered alone before; together with others it has to get the same answer, or 429 with
Retry-After. The server's memory, files and threads may not grow, and in the end nothing runs or waits.
"""

import collections
import contextlib
import http.client
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

SLOTS = 8
# Together with the slots less than the clients, so that some are refused.
MAX_QUEUE = 40
# By then every plan was compiled; what comes after it is compared with this.
SETTLED_S = 15
# Memory may grow by so much after it: the allocators' noise.
GROWTH = 0.03
# Of a log-probability, beside one of other rows' pass.
TOLERANCE = 1e-4
PATIENCE_S = 120

PROMPTS = [
    "Once upon a time",
    "Once there was a quiet boy named Max who lived beside a quiet river.",
    "One day, a little dog",
    "It was Grandpa's birthday, and Ruby wanted to make an almond cake. But there was no milk in the kitchen.",
    "\"Look, Mom!\" he said.",
    "Zoë",
    "The",
]
# Each with each prompt.
SETTINGS = [
    {"temperature": 0, "max_tokens": 40},
    {"temperature": 0, "max_tokens": 24, "logprobs": 3},
    {"temperature": 0, "max_tokens": 30, "repetition_penalty": 1.3},
    {"temperature": 1, "max_tokens": 40, "seed": 11},
    {"temperature": 0.8, "max_tokens": 32, "seed": 12, "top_p": 0.9, "n": 3},
    {"temperature": 1.2, "max_tokens": 20, "seed": 13, "top_k": 50, "min_p": 0.02, "logprobs": 0},
    {"temperature": 0.9, "max_tokens": 48, "seed": 14, "stop": [".", "\n"]},
    {"temperature": 0, "max_tokens": 1, "echo": True, "logprobs": 1},
]


class Server:
    """A server of its own, and what the system says of its process."""

    def __init__(self, program, model):
        folder = pathlib.Path(model)
        command = [
            program, "serve", "--port", "0", "--no-tune", "--model-name", "soak",
            "--slots", str(SLOTS), "--max-queue", str(MAX_QUEUE),
            "--checkpoint", folder / "checkpoints" / "latest.safetensors", "--tokenizer", folder / "tokenizer",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip().removeprefix("http://")
        if not self.address:
            sys.exit("the server did not start")

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def n_files(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def n_threads(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()))

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def metrics(self):
        lines = self.get("/metrics").splitlines()
        pairs = [line.removeprefix("gpu_tlm_").rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}


class Refused(Exception):
    """429; try again after so many seconds."""


def body_of(request, stream):
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return json.dumps({**request, **more})


def send(connection, body):
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})


def expect_taken(response):
    """Goes on where the status is 200."""
    if response.status == 429:
        error = json.loads(response.read())["error"]
        after = int(response.headers["Retry-After"])
        if error["code"] != "queue_full" or not 1 <= after <= 60:
            raise ValueError(f"429 with {error}, after {after}")
        raise Refused(after)
    if response.status != 200:
        raise ValueError(f"status {response.status}: {response.read()[:300]}")


def ask(connection, request, stream):
    """Texts, reasons, log-probabilities and usage, whichever way they come."""
    send(connection, body_of(request, stream))
    response = connection.getresponse()
    expect_taken(response)
    parts = list(events(response)) if stream else [json.loads(response.read())]
    choices = collections.defaultdict(lambda: {"text": "", "finish": None, "tokens": [], "logprobs": []})
    usage = None
    for part in parts:
        usage = part.get("usage") or usage
        for choice in part["choices"]:
            whole = choices[choice["index"]]
            whole["text"] += choice["text"]
            whole["finish"] = choice["finish_reason"] or whole["finish"]
            logprobs = choice["logprobs"] or {"tokens": [], "token_logprobs": []}
            whole["tokens"] += logprobs["tokens"]
            whole["logprobs"] += logprobs["token_logprobs"]
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage}


def events(response):
    """The events of a stream, which has to come to its end."""
    for line in response:
        line = line.strip()
        if line == b"data: [DONE]":
            response.read()
            return
        if line:
            part = json.loads(line.removeprefix(b"data: "))
            if "error" in part:
                raise ValueError(f"a stream ended with {part}")
            yield part
    raise ValueError("a stream broke off")


def mismatch(want, got):
    """What differs, if anything does."""
    if want["usage"] != got["usage"]:
        return f"usage {got['usage']}, not {want['usage']}"
    for one, other in zip(want["choices"], got["choices"], strict=True):
        for key in ("text", "finish", "tokens"):
            if one[key] != other[key]:
                return f"{key} {other[key]!r}, not {one[key]!r}"
        for a, b in zip(one["logprobs"], other["logprobs"], strict=True):
            if a is None or b is None:
                if a is not b:
                    return f"log-probability {b}, not {a}"
            elif not abs(a - b) <= TOLERANCE * max(1.0, abs(a)):
                return f"log-probability {b}, not {a}"
    return None


class Tally:
    """What all clients have seen."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.failures = []

    def add(self, **counts):
        with self.lock:
            self.counts.update(counts)

    def fail(self, message):
        with self.lock:
            self.failures.append(message)


def hang_up(address, request, rng):
    """Leaves in one of the ways in which clients leave."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        way = rng.choice(["stream", "stream", "whole", "half a body", "reset"])
        body = body_of(request, stream=way == "stream")
        if way == "half a body":
            connection.putrequest("POST", "/v1/completions")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[: len(body) // 2].encode())
            time.sleep(0.05)
            return
        send(connection, body)
        if way == "stream":
            response = connection.getresponse()
            try:
                expect_taken(response)
            except Refused:
                return
            for _, _ in zip(range(rng.randrange(1, 6)), events(response)):
                pass
            response.close()
        else:
            time.sleep(rng.uniform(0.0, 1.5))
        if way == "reset":
            linger = b"\1\0\0\0\0\0\0\0"
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def client(number, address, cases, until, tally):
    rng = random.Random(number)
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    while time.monotonic() < until:
        index = rng.randrange(len(cases))
        request, alone = cases[index]
        try:
            if rng.random() < 0.2:
                hang_up(address, request, rng)
                tally.add(hung_up=1)
                continue
            # Most keep their connection; some come by a new one.
            if rng.random() < 0.2:
                connection.close()
            stream = rng.random() < 0.5
            answer = ask(connection, request, stream)
            difference = mismatch(alone, answer)
            if difference:
                tally.fail(f"client {number}, {request}, stream {stream}: {difference}")
            tokens = answer["usage"]["completion_tokens"]
            tally.add(answered=1, tokens=tokens, streamed=int(stream))
        except Refused as refused:
            tally.add(refused=1)
            time.sleep(min(refused.args[0], max(0.0, until - time.monotonic())))
        except Exception as error:  # whatever it is, a request was lost
            tally.fail(f"client {number}, {request}: {error!r}")
            connection.close()
    connection.close()


def settle(server):
    """Waits until nothing runs or waits."""
    for _ in range(100):
        metrics = server.metrics()
        if metrics["active_sequences"] == metrics["queue_length"] == 0:
            return metrics
        time.sleep(0.1)
    sys.exit(f"FAIL the server still has {metrics['active_sequences']} sequences")


def soak(server, seconds, n_clients):
    name = json.loads(server.get("/api/info"))
    requests = [{"prompt": prompt, **settings} for prompt in PROMPTS for settings in SETTINGS]
    connection = http.client.HTTPConnection(server.address, timeout=PATIENCE_S)
    cases = [(request, ask(connection, request, stream=False)) for request in requests]
    connection.close()
    before = settle(server)
    tally = Tally()
    begun = time.monotonic()
    arguments = (server.address, cases, begun + seconds, tally)
    clients = [threading.Thread(target=client, args=(number, *arguments)) for number in range(n_clients)]
    for thread in clients:
        thread.start()
    samples = []
    while any(thread.is_alive() for thread in clients):
        samples.append((time.monotonic() - begun, server.rss_mib(), server.n_files(), server.n_threads()))
        time.sleep(1)
    elapsed = time.monotonic() - begun
    after = settle(server)
    settled = next((sample for sample in samples if sample[0] >= SETTLED_S), samples[-1])
    report(name, tally, elapsed, (before, after), (samples[0], settled, server))


def report(info, tally, elapsed, metrics, memory):
    counts, (before, after), (first, settled, server) = tally.counts, metrics, memory
    rss, files, threads = server.rss_mib(), server.n_files(), server.n_threads()
    made = after["generated_tokens_total"] - before["generated_tokens_total"]
    gone = after["cancelled_sequences_total"] - before["cancelled_sequences_total"]
    print(f"adapter         {info.get('adapter')}")
    print(f"answered        {counts['answered']} requests, {counts['streamed']} of them as streams, in {elapsed:.0f} s")
    print(f"refused (429)   {counts['refused']}")
    print(f"hung up         {counts['hung_up']}, {gone:.0f} sequences given up")
    print(f"tokens          {counts['tokens']} in answers, {made:.0f} generated: {made / elapsed:.0f} a second")
    print(f"memory (RSS)    {first[1]:.1f} MiB at first, {settled[1]:.1f} after {settled[0]:.0f} s, {rss:.1f} at the end")
    print(f"files, threads  {first[2]}, {first[3]} at first; {files}, {threads} at the end")
    failures = tally.failures
    if rss > settled[1] * (1 + GROWTH):
        failures.append("memory has grown")
    # Those of clients are closed; what the device opens it opens once.
    if files > settled[2] or threads > settled[3]:
        failures.append("files or threads have piled up")
    for key in ("answered", "streamed", "refused", "hung_up"):
        if counts[key] == 0:
            failures.append(f"no request was {key}: the soak has shown nothing of them")
    for failure in failures[:20]:
        print(f"FAIL {failure}")
    if failures:
        sys.exit(f"{len(failures)} failures")


def main():
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    program, model = sys.argv[1:3]
    seconds, n_clients = [*map(int, sys.argv[3:]), *(60, 64)[len(sys.argv) - 3 :]]
    server = Server(program, model)
    try:
        soak(server, seconds, n_clients)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(PATIENCE_S)
        if code != 0:
            sys.exit(f"FAIL the server ended with exit code {code}")
        print("ok   nothing was lost, mixed up or piled up")
    finally:
        server.process.kill()


if __name__ == "__main__":
    main()
