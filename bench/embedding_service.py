"""Measures the embedding service from outside, over HTTP, with the load generator beside it.

    embedding_service.py BINARY LOAD MODELS CORPUS QUERIES STATE [PART ...]

LOAD is the program of `crates/server/examples/http_load.rs`. CORPUS and QUERIES are SciFact's JSON-lines files. Every
request has a text of its own, so none is answered from what is kept. Parts: `clients` (one client, 32, batching off),
`indexing` (32 clients while the corpus is indexed), `overload` (four times what 32 clients get), `memory` (a mixed load
as long as two hours of one request each 33 ms; its growth is that of the second one). Prints figures as JSON lines; exit code 0 if each is as promised.

Standard library only.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from serving import Server, write_files

ONE_P50_MS = 3
MANY = 32
MANY_PER_SECOND = 900
MANY_P99_MS = 80
INDEXING_P99_RATIO = 2
BATCHING_RATIO = 3
UTILISATION = 0.7
OVERLOAD = 4
OVERLOAD_SECONDS = 60
OVERLOAD_BODIES = 1_000_000
OVERLOAD_DEADLINE_MS = 1_000
GOODPUT = 0.9
IN_TIME = 0.99
REFUSED_MS = 10
RESIDENT_MB = 250
GROWTH_MB_AN_HOUR = 1
MIXED_REQUESTS = 108_000
SECONDS = 15
WARM_UP = 3
PARTS = ["clients", "indexing", "overload", "memory"]


class Load:
    """The load generator, told what to do a line at a time."""

    def __init__(self, program, server, bodies):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(
            target=server.url.removeprefix("http://"),
            path="/v1/embeddings",
            headers={"Authorization": f"Bearer {server.key}"},
            bodies=bodies,
        )

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the load generator ended")
        return json.loads(line)

    def closed(self, clients, seconds=SECONDS):
        answer = self.ask(closed=clients, seconds=seconds, warm_up=WARM_UP)
        failed = answer["refused"] + answer["errors"] + sum(answer["other"].values())
        if failed:
            raise SystemExit(f"{failed} requests of {clients} clients failed: {answer}")
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)


class Figures:
    def __init__(self):
        self.missed = []

    def add(self, name, value, promised, fits):
        print(json.dumps({"figure": name, "value": value, "promised": promised}), flush=True)
        if not fits:
            self.missed.append(name)


def start(binary, models, data, *arguments, **settings):
    os.environ.update({f"HOLDFAST_{name}": str(value) for name, value in settings.items()})
    server = Server(binary, models, data, "up", *arguments)
    for name in settings:
        del os.environ[f"HOLDFAST_{name}"]
    listening = server.until("listening")
    server.url = listening["url"]
    server.connect(server.url)
    server.key = listening.get("admin_key") or server.cli("keys", "create", "bench")["key"]
    while server.call("GET", "/health/ready")[0] != 200:
        time.sleep(0.02)
    # What it says from now on is of no interest, but must not fill the pipe.
    threading.Thread(target=lambda: all(server.process.stdout), daemon=True).start()
    return server


def bodies(queries, count, name):
    """So many requests with one claim each, no two of them equal."""
    claims = itertools.cycle(queries)
    return [json.dumps({"input": f"{next(claims)} {name}{number}"}) for number in range(count)]


def busy_seconds(server):
    request = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.key}"})
    metrics = urllib.request.urlopen(request).read().decode()
    series = re.findall(r"^holdfast_embedding_batch_seconds_sum\S* (\S+)$", metrics, re.MULTILINE)
    threads = re.search(r"^holdfast_embedding_threads\S* (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, series)), float(threads[1])


def clients(settings, figures):
    binary, load, models, queries, state = settings
    server = start(binary, models, state / "clients")
    generator = Load(load, server, bodies(queries, 100_000, "a"))
    one = generator.closed(1)
    figures.add("1 client: p50, ms", one["ok_ms"]["p50"], f"<= {ONE_P50_MS}", one["ok_ms"]["p50"] <= ONE_P50_MS)
    (busy, threads), began = busy_seconds(server), time.perf_counter()
    many = generator.closed(MANY)
    utilisation = (busy_seconds(server)[0] - busy) / (time.perf_counter() - began) / threads
    figures.add(f"{MANY} clients: requests/s", many["ok_per_second"], f">= {MANY_PER_SECOND}", many["ok_per_second"] >= MANY_PER_SECOND)
    figures.add(f"{MANY} clients: p50 and p99, ms", [many["ok_ms"]["p50"], many["ok_ms"]["p99"]], f"p99 <= {MANY_P99_MS}", many["ok_ms"]["p99"] <= MANY_P99_MS)
    figures.add(f"{MANY} clients: utilisation of the threads", round(utilisation, 3), f">= {UTILISATION}", utilisation >= UTILISATION)
    generator.end()
    server.stop()
    server = start(binary, models, state / "clients", MODELS__BATCH_TOKENS=1)
    generator = Load(load, server, bodies(queries, 100_000, "b"))
    off = generator.closed(MANY)
    ratio = many["ok_per_second"] / off["ok_per_second"]
    figures.add(f"{MANY} clients, batching off: requests/s, and with it so many times", [off["ok_per_second"], round(ratio, 2)], f">= {BATCHING_RATIO}", ratio >= BATCHING_RATIO)
    generator.end()
    server.stop()


def indexing(settings, figures, files):
    binary, load, models, queries, state = settings
    # Anew each time: what is to be measured is the indexing.
    subprocess.run(["rm", "-rf", state / "indexing"], check=True)
    server = start(binary, models, state / "indexing")
    generator = Load(load, server, bodies(queries, 100_000, "c"))
    idle = generator.closed(MANY)["ok_ms"]["p99"]
    status, source = server.call("POST", "/api/v1/sources", {"path": str(files.resolve()), "collection": "default"})
    if status not in (200, 201, 202):
        raise SystemExit(f"the corpus was not accepted: {status} {source}")
    indexed = lambda: server.call("GET", "/api/v1/collections/default")[1]["documents"]
    began, before = time.perf_counter(), indexed()
    during = generator.closed(MANY)["ok_ms"]["p99"]
    share = (indexed() - before) / (time.perf_counter() - began)
    _, status = server.call("GET", "/api/v1/jobs?limit=5")
    if all(job["state"] in ("done", "failed") for job in status["jobs"]):
        raise SystemExit("indexing ended before the measuring did")
    ratio = during / idle
    figures.add(f"{MANY} clients: p99 idle, while indexing, ratio", [idle, during, round(ratio, 2)], f"<= {INDEXING_P99_RATIO}", ratio <= INDEXING_P99_RATIO)
    began, before = time.perf_counter(), indexed()
    time.sleep(SECONDS)
    alone = (indexed() - before) / (time.perf_counter() - began)
    figures.add("documents indexed a second: with those clients, alone", [round(share, 1), round(alone, 1)], "> 0", share > 0)
    generator.end()
    server.stop()


def overload(settings, figures):
    binary, load, models, queries, state = settings
    server = start(binary, models, state / "clients")
    generator = Load(load, server, bodies(queries, OVERLOAD_BODIES, "d"))
    alone = generator.closed(MANY)
    peak = alone["ok_per_second"]
    answer = generator.ask(
        open=round(OVERLOAD * peak), seconds=OVERLOAD_SECONDS, warm_up=WARM_UP, deadline_ms=OVERLOAD_DEADLINE_MS, connections=1_000
    )
    print(json.dumps({"overload": answer}), flush=True)
    if (alone["sent"] + answer["sent"]) * (1 + WARM_UP / SECONDS) > OVERLOAD_BODIES:
        raise SystemExit(f"{OVERLOAD_BODIES} texts were not enough for each request to have its own")
    goodput = answer["ok_per_second"] / peak
    figures.add(f"{OVERLOAD} times {peak:.0f}/s: goodput's share of that", round(goodput, 3), f">= {GOODPUT}", goodput >= GOODPUT)
    admitted = answer["ok"] + answer["errors"] + sum(answer["other"].values())
    in_time = (answer["ok"] - answer["late"]) / admitted
    figures.add(f"answered within {OVERLOAD_DEADLINE_MS} ms, of the admitted", round(in_time, 4), f">= {IN_TIME}", in_time >= IN_TIME)
    refused = answer["refused_ms"]
    figures.add("time to be refused: p50 and p99, ms", [refused["p50"], refused["p99"]], f"<= {REFUSED_MS}", refused["p99"] <= REFUSED_MS)
    generator.end()
    server.stop()


def memory(settings, figures, corpus):
    binary, load, models, queries, state = settings
    server = start(binary, models, state / "clients")
    long = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    mixed = []
    for number, (claim, abstract) in zip(range(20_000), zip(itertools.cycle(queries), itertools.cycle(long))):
        match number % 20:
            case 0:
                body = {"input": [f"{claim} {number} {n}" for n in range(32)]}
            case 1 | 2:
                body = {"input": f"{number} {abstract}", "truncate": True, "encoding_format": "base64"}
            case 3 | 4 | 5:
                body = {"input": claim}
            case _:
                body = {"input": f"{claim} {number}"}
        mixed.append(json.dumps(body))
    generator = Load(load, server, mixed)
    sent, resident = 0, []
    while sent < 2 * MIXED_REQUESTS:
        sent += generator.ask(closed=8, seconds=5, warm_up=0)["ok"]
        resident.append((sent, server.resident_mb()))
    half = [(at, mb) for at, mb in resident if at >= MIXED_REQUESTS]
    mean_at, mean_mb = sum(at for at, _ in half) / len(half), sum(mb for _, mb in half) / len(half)
    slope = sum((at - mean_at) * (mb - mean_mb) for at, mb in half) / sum((at - mean_at) ** 2 for at, _ in half)
    growth = slope * MIXED_REQUESTS
    highest = max(mb for _, mb in resident)
    figures.add(f"resident memory, highest over {sent} mixed requests, MB", highest, f"<= {RESIDENT_MB}", highest <= RESIDENT_MB)
    figures.add("growth over its second hour, MiB", round(growth, 2), f"<= {GROWTH_MB_AN_HOUR}", growth <= GROWTH_MB_AN_HOUR)
    generator.end()
    server.stop()


def main():
    binary, load, models, corpus, queries, state, *parts = sys.argv[1:]
    state, corpus = Path(state), Path(corpus)
    state.mkdir(parents=True, exist_ok=True)
    claims = [json.loads(line)["text"] for line in Path(queries).read_text().splitlines()]
    settings = (binary, load, Path(models).resolve(), claims, state)
    figures = Figures()
    for part in parts or PARTS:
        if part == "clients":
            clients(settings, figures)
        elif part == "indexing":
            write_files(corpus, state / "files")
            indexing(settings, figures, state / "files")
        elif part == "overload":
            overload(settings, figures)
        elif part == "memory":
            memory(settings, figures, corpus)
        else:
            raise SystemExit(f"no part {part!r}; there are {', '.join(PARTS)}")
    if figures.missed:
        print(f"missed: {', '.join(figures.missed)}", file=sys.stderr)
    return 1 if figures.missed else 0


if __name__ == "__main__":
    sys.exit(main())
