"""Measures what slow and idle connections do to honest clients, over HTTP and over HTTPS.

    connections.py BINARY MODELS CORPUS STATE QUERIES [SECONDS]

Four clients, each a process with one connection, search with queries that are all different: first alone, then beside
200 clients that never finish their headers (slowloris), 200 that are silent after one request, and 50 that ask for more
than they read. Whoever is cut off comes back within half a second. Meanwhile a probe is sent four times a second, each on a connection
of its own. CORPUS and QUERIES are as for serving.py. Three rounds: HTTP, HTTPS, and HTTP with fewer places than there are
connections. Prints figures as JSON lines; exit code 0 if each is as promised. SECONDS is the length of a measurement.

Standard library only.
"""

import http.client
import json
import multiprocessing
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from serving import Server, index, write_files

SLOWLORIS, IDLE, SLOW_READERS = 200, 200, 50
HONEST = 4
P99_RATIO = 3
PROBE_MS = 100
KIB_A_CONNECTION = 64
FEW_PLACES = 300
SECONDS = 15
WARM_UP = 100
PROBE_EVERY = 0.25
# So often the slow clients do a little, and those that were cut off come back.
TURN = 0.5
# A slow reader takes so much at a time.
SIP = 16


def address_of(url):
    host, port = url.split("://")[1].rsplit(":", 1)
    return host, int(port)


def open_socket(target, small=False):
    """A connected socket to a target: (host, port, authority's file or nothing)."""
    host, port, authority = target
    raw = socket.socket()
    if small:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect((host, port))
    if authority is None:
        return raw
    context = ssl.create_default_context(cafile=authority)
    return context.wrap_socket(raw, server_hostname="localhost")


def connection_of(target):
    host, port, authority = target
    if authority is None:
        return http.client.HTTPConnection(host, port, timeout=60)
    return http.client.HTTPSConnection(host, port, timeout=60, context=ssl.create_default_context(cafile=authority))


def search_of(host, key):
    """What slow readers ask for, as it is sent."""
    body = json.dumps({"query": "asked for and never read", "limit": 50})
    return (
        f"POST /api/v1/search HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def burst(target, key):
    """As many searches at once as there are slow readers, so that the memory of working on so many is there before."""

    def client():
        for _ in range(20):
            with open_socket(target) as sock:
                sock.sendall(search_of(target[0], key).replace(b"X-API-Key", b"Connection: close\r\nX-API-Key"))
                while sock.recv(65536):
                    pass

    clients = [threading.Thread(target=client) for _ in range(SLOW_READERS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()


def honest(target, key, queries, seconds, times):
    """Searches on one connection for so long, after some that do not count."""
    connection = connection_of(target)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    taken, failures, number = [], 0, 0
    until = None
    while until is None or time.perf_counter() < until:
        body = json.dumps({"query": f"{queries[number % len(queries)]} {os.getpid()} {number} {time.time_ns()}"})
        began = time.perf_counter()
        try:
            connection.request("POST", "/api/v1/search", body, headers)
            answer = connection.getresponse()
            answer.read()
            failures += answer.status != 200
        except (http.client.HTTPException, OSError):
            failures += 1
            connection.close()
        number += 1
        if until is not None:
            taken.append(time.perf_counter() - began)
        elif number >= WARM_UP // HONEST:
            until = time.perf_counter() + seconds
    times.put((taken, failures))


def slow(target, key, ready, stop):
    """All the slow clients, in one process: each is opened, and opened again when it is cut off."""
    selector = selectors.DefaultSelector()
    reopened = 0
    host = target[0]

    def slowloris():
        sock = open_socket(target)
        sock.sendall(f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nX-Slow: ".encode())
        return sock

    def idle():
        sock = open_socket(target)
        sock.sendall(f"GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        sock.recv(4096)
        return sock

    def slow_reader():
        sock = open_socket(target, small=True)
        request = search_of(host, key)
        sock.settimeout(0.2)
        try:
            # Answers of megabytes are asked for, until no more requests are taken.
            for _ in range(200):
                sock.sendall(request)
        except (TimeoutError, ssl.SSLError):
            pass
        return sock

    made = [slowloris] * SLOWLORIS + [idle] * IDLE + [slow_reader] * SLOW_READERS
    open_now = {}

    def open_one(make):
        sock = make()
        sock.setblocking(False)
        open_now[sock] = make
        if make is not slow_reader:
            selector.register(sock, selectors.EVENT_READ)

    waiting = []

    def forget(sock):
        make = open_now.pop(sock)
        if make is not slow_reader:
            selector.unregister(sock)
        sock.close()
        waiting.append(make)

    def look(sock, act):
        """Does something with a socket, and gives it up when it was cut off."""
        try:
            act(sock)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            forget(sock)

    def receive(size):
        def act(sock):
            if not sock.recv(size):
                raise ConnectionError

        return act

    for make in made:
        open_one(make)
    ready.set()
    while not stop.is_set():
        turn = time.monotonic() + TURN
        while (left := turn - time.monotonic()) > 0:
            for key_of, _ in selector.select(timeout=left):
                look(key_of.fileobj, receive(4096))
        for sock, make in list(open_now.items()):
            if make is slowloris:
                look(sock, lambda sock: sock.send(b"x"))
            elif make is slow_reader:
                look(sock, receive(SIP))
        reopened += len(waiting)
        back, waiting[:] = list(waiting), []
        for make in back:
            try:
                open_one(make)
            except OSError:
                # Cut off again before it was open: it tries again next time.
                waiting.append(make)
    print(json.dumps({"cut off and back again": reopened}), file=sys.stderr)


def probe(target, times, stop):
    """The time of a probe on a connection of its own, over and over."""
    taken = []
    while not stop.is_set():
        began = time.perf_counter()
        connection = connection_of(target)
        connection.request("GET", "/health/live")
        if connection.getresponse().status != 200:
            raise SystemExit("a probe failed")
        connection.close()
        taken.append(time.perf_counter() - began)
        time.sleep(PROBE_EVERY)
    times.put(taken)


def run_honest(target, key, queries, seconds):
    times = multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=honest, args=(target, key, queries[n::HONEST], seconds, times))
        for n in range(HONEST)
    ]
    for client in clients:
        client.start()
    results = [times.get(timeout=seconds + 120) for _ in clients]
    for client in clients:
        client.join()
    taken = sorted(took for result, _ in results for took in result)
    failures = sum(failed for _, failed in results)
    return taken, failures


def p99_ms(taken):
    return round(statistics.quantiles(taken, n=100)[98] * 1e3, 2)


def measure(name, server, target, queries, seconds, figure):
    quiet, failures = run_honest(target, server.key, queries, seconds)
    if failures:
        raise SystemExit(f"{failures} searches failed without any load")
    burst(target, server.key)
    before = server.resident_mb()
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    attackers = multiprocessing.Process(target=slow, args=(target, server.key, ready, stop))
    attackers.start()
    if not ready.wait(120):
        raise SystemExit("the slow clients did not get in")
    connections = SLOWLORIS + IDLE + SLOW_READERS
    time.sleep(2)
    kib = round((server.resident_mb() - before) * 1024 / connections, 1)
    probes = multiprocessing.Queue()
    prober = multiprocessing.Process(target=probe, args=(target, probes, stop))
    prober.start()
    beside, failures = run_honest(target, server.key, queries, seconds)
    stop.set()
    probed = probes.get(timeout=60)
    for process in (attackers, prober):
        process.join()
    quiet_ms, beside_ms = p99_ms(quiet), p99_ms(beside)
    ratio = round(beside_ms / quiet_ms, 2)
    counts = [len(quiet), len(beside)]
    figure(f"{name}: honest searches, quiet and beside", counts, "", True)
    figure(f"{name}: honest p99, ms: quiet, beside, ratio", [quiet_ms, beside_ms, ratio], f"<= {P99_RATIO}", ratio <= P99_RATIO)
    figure(f"{name}: honest failures", failures, "0", failures == 0)
    slowest = round(max(probed) * 1e3, 1)
    figure(f"{name}: slowest of {len(probed)} probes, ms", slowest, f"<= {PROBE_MS}", slowest <= PROBE_MS)
    # Before the honest clients search again: what they ask for is kept, and that is no connection's memory.
    figure(f"{name}: memory a connection, KiB", kib, f"<= {KIB_A_CONNECTION}", kib <= KIB_A_CONNECTION)


def main():
    binary, models, corpus, state, queries = sys.argv[1:6]
    seconds = float(sys.argv[6]) if len(sys.argv) > 6 else SECONDS
    state = Path(state)
    data = state / "data"
    texts = [json.loads(line)["text"] for line in Path(queries).read_text().splitlines()]
    write_files(Path(corpus), state / "files")
    index(binary, Path(models).resolve(), data, state / "files")
    subprocess.run([binary, "--data-dir", str(data), "--json", "tls", "init"], check=True, stdout=subprocess.DEVNULL)
    missed = []

    def figure(name, value, promised, fits):
        print(json.dumps({"figure": name, "value": value, "promised": promised}), flush=True)
        if not fits:
            missed.append(name)

    for name, places in (("HTTP", 1024), ("HTTPS", 1024), (f"HTTP, {FEW_PLACES} places", FEW_PLACES)):
        os.environ["HOLDFAST_SERVER__MAX_CONNECTIONS"] = str(places)
        server = Server(binary, Path(models).resolve(), data, "up", "--listen-tls", "127.0.0.1:0")
        made = server.cli("tls", "show")
        said = server.until("listening")
        server.connect(said["url"])
        while server.call("GET", "/health/ready")[0] != 200:
            time.sleep(0.05)
        server.key = server.cli("keys", "create", "bench")["key"]
        url, authority = (said["tls_url"], made["authority"]["file"]) if name == "HTTPS" else (said["url"], None)
        measure(name, server, (*address_of(url), authority), texts, seconds, figure)
        server.stop()
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
