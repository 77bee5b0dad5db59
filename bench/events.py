"""Events of other programs, measured from outside: how many are taken over HTTP, and how fast a backlog is folded.

    events.py BINARY MODELS STATE [MEGABYTES]

Eight clients send batches of 100 events for 20 seconds, each event an interaction that was told of with its question and answer, some 650
bytes; an answer means that they are on disk. Then the log is filled to MEGABYTES of bodies (1000 by default), half of them
interactions and half events of a kind that nobody knows, with what is derived removed, and the server is started again: it is measured how
fast the log is folded, how much memory that takes beyond what the server has before, and what a search takes
meanwhile. Prints JSON lines; exit code 0 if 15 000 events/s are taken, 20 MB/s are folded, and memory grows by 200 MB at most.

Standard library only.
"""

import json
import multiprocessing
import os
import random
import sys
import time
import uuid
from pathlib import Path

from serving import Server

CLIENTS = 8
TOGETHER = 100
SECONDS = 20
WORDS = "how do I pin an input of my flake to one revision when the channel moved and the build fails with a hash".split()


def event(chance, size, is_known):
    words = " ".join(chance.choices(WORDS, k=size // 5))
    if not is_known:
        return {"kind": "deployed", "body": {"what": words + words}}
    identity = str(uuid.UUID(int=chance.getrandbits(128)))
    return {"kind": "interaction_told", "interaction": identity, "question": words, "answer": words, "outcome": "success"}


class Client(Server):
    """A connection to a server that somebody else has started."""

    def __init__(self, url, key):
        self.key = key
        self.connect(url)


def send(url, key, seed, until, size, known_share, taken, bytes_sent):
    client, chance = Client(url, key), random.Random(seed)
    # Made before, so that what is measured is the server.
    batches = [
        {"events": [event(chance, size, chance.random() < known_share) for _ in range(TOGETHER)]} for _ in range(50)
    ]
    number = 0
    while not until(taken.value, bytes_sent.value):
        batch = batches[number % len(batches)]
        for one in batch["events"]:
            if "interaction" in one:
                one["interaction"] = str(uuid.UUID(int=chance.getrandbits(128)))
        number += 1
        status, answer = client.call("POST", "/api/v1/events", batch)
        if status != 201:
            raise SystemExit(f"not on record: {status} {answer}")
        with taken.get_lock():
            taken.value += TOGETHER
        with bytes_sent.get_lock():
            bytes_sent.value += len(json.dumps(batch))


class Deadline:
    def __init__(self, at):
        self.at = at

    def __call__(self, _taken, _bytes):
        return time.monotonic() > self.at


class Enough:
    def __init__(self, size):
        self.size = size

    def __call__(self, _taken, sent):
        return sent > self.size


def by_many(server_url, key, until, size, known_share):
    context = multiprocessing.get_context("fork")
    taken, sent = context.Value("q", 0), context.Value("q", 0)
    began = time.monotonic()
    clients = [
        context.Process(target=send, args=(server_url, key, seed, until, size, known_share, taken, sent))
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
        if client.exitcode:
            raise SystemExit("a client failed")
    return taken.value, sent.value, time.monotonic() - began


def started(binary, models, data):
    server = Server(binary, models, data, "up")
    url = server.until("listening")["url"]
    server.connect(url)
    server.key = server.cli("keys", "create", f"agent-{time.time_ns()}")["key"]
    return server, url


def stage(server):
    _, stats = server.call("GET", "/api/v1/learning/stats")
    found = [stage for stage in stats["stages"] if stage["name"] == "interactions" and stage["position"] is not None]
    return (found[0]["position"] if found else 0), stats["log_position"]


def main():
    binary, models, state = sys.argv[1], *map(Path, sys.argv[2:4])
    megabytes = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
    os.environ["HOLDFAST_LIMITS__ENABLED"] = "false"
    data = state / "data"
    server, url = started(binary, models, data)
    taken, _, seconds = by_many(url, server.key, Deadline(time.monotonic() + SECONDS), 250, 1.0)
    rate = round(taken / seconds)
    print(json.dumps({"clients": CLIENTS, "batch": TOGETHER, "events_per_s": rate}), flush=True)
    by_many(url, server.key, Enough(megabytes * 1_000_000), 900, 0.5)
    server.stop()
    size = (data / "db/events.db").stat().st_size
    for path in (data / "db").glob("learning.db*"):
        path.unlink()
    server, url = started(binary, models, data)
    while server.call("POST", "/api/v1/search", {"query": "a first look"})[0] != 200:
        time.sleep(0.1)
    (position, last), began, before = stage(server), time.monotonic(), server.resident_mb()
    first, most, took = position, before, []
    while position < last:
        began_search = time.perf_counter()
        server.call("POST", "/api/v1/search", {"query": f"a question {random.random()}"})
        took.append(time.perf_counter() - began_search)
        position, last = stage(server)
        most = max(most, server.resident_mb())
        time.sleep(0.02)
    seconds = time.monotonic() - began
    share = (last - first) / last
    folded = size * share / 1_000_000 / seconds
    took.sort()
    print(json.dumps({
        "log_mb": round(size / 1_000_000), "events": last, "folded_mb_per_s": round(folded, 1), "seconds": round(seconds, 1),
        "memory_before_mb": before, "memory_most_mb": most,
        "search_p99_ms_meanwhile": round(took[int(len(took) * 0.99)] * 1000, 2) if took else None,
    }), flush=True)
    server.stop()
    sys.exit(0 if rate >= 15_000 and folded >= 20 and most - before <= 200 else 1)


if __name__ == "__main__":
    main()
