"""Starts Holdfast over indexed documents and measures it from outside, over HTTP.

    serving.py BINARY MODELS CORPUS STATE QUERIES

CORPUS is a JSON-lines file of `_id`, `title`, `text`, written out as one file each; QUERIES one of
`text`. The data directory stays in STATE for the next time. Prints, as JSON lines: the time from
start to ready and the memory then; memory while 10 000 different searches are made; the time of a
search that is answered from the cache against one that is not, on one connection; and how soon a
written document ends what was cached. Exit code 0 if every figure is as promised.

Standard library only.
"""

import atexit
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

READY_SECONDS = 1.5
RESIDENT_MB = 400
GROWTH_MB = 20
CACHE_RATIO = 10
SEARCHES = 10_000
PATIENCE = 1800


class Server:
    """A running server and one connection to it."""

    def __init__(self, binary, models, data, *arguments):
        (data / "models").parent.mkdir(parents=True, exist_ok=True)
        if not (data / "models").exists():
            (data / "models").symlink_to(models)
        self.command = [binary, "--data-dir", str(data), "--json"]
        self.process = subprocess.Popen(
            [binary, "--data-dir", str(data), "--listen", "127.0.0.1:0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=open(data.parent / "server.log", "ab"),
            text=True,
        )
        self.key = None
        # Whatever ends the script ends the server.
        atexit.register(self.process.kill)

    def until(self, event):
        """Follows what the server says until it says that."""
        for line in self.process.stdout:
            said = json.loads(line)
            if said.get("event") == event:
                return said
        raise SystemExit(f"the server ended before it said {event}")

    def connect(self, url):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def cli(self, *arguments):
        run = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    def call(self, method, path, body=None):
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def search(self, query):
        began = time.perf_counter()
        status, answer = self.call("POST", "/api/v1/search", {"query": query})
        took = time.perf_counter() - began
        if status != 200 or not answer["results"]:
            raise SystemExit(f"search failed: {status} {answer}")
        return took, answer

    def resident_mb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return round(int(line.split()[1]) / 1024, 1)

    def stop(self):
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}")


def write_files(corpus, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for line in corpus.read_text().splitlines():
        document = json.loads(line)
        path = folder / f"{document['_id']}.txt"
        text = f"{document['title']}\n\n{document['text']}\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def index(binary, models, data, files):
    """Indexes the files, unless that was done before, and in this program's embedding space."""
    done = data.parent / "indexed"
    if done.exists():
        server, _ = start_to_ready(binary, models, data)
        server.key = server.cli("keys", "create", "bench")["key"]
        status, _ = server.call("POST", "/api/v1/search", {"query": "a first look"})
        server.stop()
        if status == 200:
            return
        done.unlink()
        shutil.rmtree(data)
    server = Server(binary, models, data, "up", str(files))
    server.until("indexed")
    time.sleep(10)  # What is built in the background is built.
    server.stop()
    done.touch()


def start_to_ready(binary, models, data):
    began = time.perf_counter()
    server = Server(binary, models, data, "up")
    server.connect(server.until("listening")["url"])
    while server.call("GET", "/health/ready")[0] != 200:
        time.sleep(0.005)
        if time.perf_counter() - began > 60:
            raise SystemExit("not ready after a minute")
    return server, time.perf_counter() - began


def main():
    binary, models, corpus, state, queries = sys.argv[1:]
    state = Path(state)
    data = state / "data"
    texts = [json.loads(line)["text"] for line in Path(queries).read_text().splitlines()]
    write_files(Path(corpus), state / "files")
    index(binary, Path(models).resolve(), data, state / "files")
    missed = []

    def figure(name, value, promised, fits):
        print(json.dumps({"figure": name, "value": value, "promised": promised}), flush=True)
        if not fits:
            missed.append(name)

    server, seconds = start_to_ready(binary, models, data)
    server.key = server.cli("keys", "create", "bench")["key"]
    figure("start to ready, s", round(seconds, 3), f"<= {READY_SECONDS}", seconds <= READY_SECONDS)
    resident = server.resident_mb()
    figure("resident memory then, MB", resident, f"<= {RESIDENT_MB}", resident <= RESIDENT_MB)

    # Every query is another one, so that none is answered from the cache.
    resident = []
    for number in range(SEARCHES):
        server.search(f"{texts[number % len(texts)]} {number}")
        if number % 1000 == 999:
            resident.append(server.resident_mb())
    figure("resident memory after every 1 000 searches, MB", resident, f"<= {RESIDENT_MB}", max(resident) <= RESIDENT_MB)
    growth = round(resident[-1] - resident[len(resident) // 2], 1)
    figure("growth over the second half, MB", growth, f"<= {GROWTH_MB}", growth <= GROWTH_MB)

    fresh = [f"{text} once more" for text in texts[:500]]
    uncached = [server.search(query)[0] for query in fresh]
    repeated = [server.search(query) for query in fresh]
    if not all(answer["cached"] for _, answer in repeated):
        raise SystemExit("a repeated query was not answered from the cache")
    cached = [took for took, _ in repeated]
    ratio = statistics.median(uncached) / statistics.median(cached)
    figure(
        "median of a search, ms: uncached, cached, ratio",
        [round(statistics.median(uncached) * 1e3, 3), round(statistics.median(cached) * 1e3, 3), round(ratio, 1)],
        f">= {CACHE_RATIO}",
        ratio >= CACHE_RATIO,
    )

    query = "quokka marsupial of Rottnest"
    server.search(query)
    if not server.search(query)[1]["cached"]:
        raise SystemExit("a repeated query was not answered from the cache")
    document = {"id": "quokka", "content": "The quokka is a small marsupial; most live on Rottnest Island."}
    status, answer = server.call("POST", "/api/v1/documents", {"documents": [document]})
    if status != 200:
        raise SystemExit(f"writing failed: {status} {answer}")
    found = server.search(query)[1]
    fits = not found["cached"] and found["results"][0]["document_id"] == "quokka"
    figure("a cached answer after one write", "new" if fits else "old", "new", fits)
    server.call("DELETE", "/api/v1/documents/quokka")
    server.stop()
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
