"""Kills Holdfast, or takes its power away, at random moments, and looks whether anything was lost.

    survive.py kill  BINARY MODELS CORPUS --rounds 100
    survive.py power BINARY MODELS CORPUS --rounds 40     (root; ext4 on a loop device)

In every round the server runs on the same data directory while files change and documents are
handed over. `kill` ends it with SIGKILL. `power` shuts the file system down without flushing
its log, which is what a power loss leaves, and mounts it again. In the end the server is left
in peace until it is done, and what it then holds is compared with what an undisturbed run makes
of the same files: documents, chunks, both indexes, and every document whose acceptance was
acknowledged. Exit code 0 if all is equal.

Standard library only. The seed is printed; `--seed` repeats a run's choices, not its timing.
"""

import argparse
import fcntl
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

EXT4_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
START_SECONDS = 60
SETTLE_SECONDS = 300


class Server:
    """One run of the binary on a data directory."""

    def __init__(self, binary, data, corpus):
        self.process = subprocess.Popen(
            [binary, "--data-dir", data, "--listen", "127.0.0.1:0", "--json", "up", corpus],
            stdout=subprocess.PIPE,
            stderr=open(Path(data).parent / "server.log", "ab"),
            text=True,
        )
        self.listening = threading.Event()
        self.indexed = threading.Event()
        self.url = None
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "listening":
                self.url = event["url"]
                self.listening.set()
            elif event.get("event") == "indexed":
                self.indexed.set()

    def wait_listening(self):
        deadline = time.monotonic() + START_SECONDS
        while not self.listening.wait(0.05):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}; see server.log")
            if time.monotonic() > deadline:
                raise SystemExit("the server did not listen in time; see server.log")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        if self.process.wait(60) != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}; see server.log")

    def kill(self):
        self.process.kill()
        self.process.wait()


def cli(binary, data, *arguments):
    """A command's JSON."""
    run = subprocess.run(
        [binary, "--data-dir", data, "--json", *arguments], capture_output=True, text=True
    )
    if run.returncode != 0:
        raise SystemExit(f"{arguments} failed: {run.stdout}{run.stderr}")
    return json.loads(run.stdout)


def post(url, key, document):
    """Hands one document over; true once it is acknowledged as indexed."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    body = json.dumps({"collection": "default", "documents": [document], "wait": True})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/documents", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status in (200, 202)


def change_files(corpus, chance):
    """Edits, adds, removes or renames a file."""
    files = sorted(path for path in corpus.rglob("*.md"))
    kind = chance.choice(["edit", "edit", "add", "remove", "rename"])
    path = chance.choice(files)
    if kind == "edit":
        path.write_text(path.read_text() + f"\n\nChanged {chance.random()}.\n")
    elif kind == "add":
        name = f"added-{chance.randrange(10**9)}.md"
        (corpus / name).write_text(f"# Added\n\nAbout {name}.\n")
    elif kind == "remove" and len(files) > 20:
        path.unlink()
    elif kind == "rename":
        path.rename(path.with_name(f"renamed-{chance.randrange(10**9)}.md"))


def disturb(server, key, corpus, chance, seconds, acknowledged):
    """Changes files and hands documents over until the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.15, max(0.0, end - time.monotonic())))
        if chance.random() < 0.5:
            change_files(corpus, chance)
        elif server.listening.is_set():
            number = chance.randrange(10**9)
            document = {"id": f"given-{number}", "content": f"Handed over: {number}."}
            try:
                if post(server.url, key, document):
                    acknowledged.append(document["id"])
            except OSError:
                pass  # Not acknowledged: it may be there or not.


def settle(binary, data):
    """Waits until no job is left."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        jobs = cli(binary, data, "jobs", "list")["jobs"]
        if all(job["state"] in ("done", "failed") for job in jobs):
            return
        time.sleep(0.3)
    raise SystemExit("jobs were still running after five minutes")


def state(data):
    """Documents and chunks, without rows and times; handed-over documents apart."""
    database = sqlite3.connect(f"file:{data}/db/holdfast.db?mode=ro", uri=True)
    documents = set(
        database.execute(
            "SELECT public_id, path, title, content_type, hex(content_hash), size_bytes"
            " FROM documents WHERE deleted_at_ms IS NULL"
        )
    )
    chunks = sorted(
        database.execute(
            "SELECT d.public_id, c.key, c.ordinal, c.start_byte, c.end_byte, c.heading,"
            " hex(c.embed_hash), hex(v.vector)"
            " FROM chunks c JOIN documents d ON d.id = c.document_id"
            " JOIN generations g ON g.id = c.generation_id"
            " LEFT JOIN vectors v ON v.space_id = g.space_id AND v.embed_hash = c.embed_hash"
        )
    )
    database.close()
    if len(chunks) != len(set(chunks)):
        raise SystemExit("there are duplicate chunks")
    given = {row for row in documents if row[0].startswith("given-")}
    files = documents - given
    return {
        "files": files,
        "chunks": [row for row in chunks if not row[0].startswith("given-")],
        "given": {row[0] for row in given},
    }


def finish(binary, data, corpus):
    """Lets a server come to rest, checks its indexes, stops it, and gives its state."""
    server = Server(binary, data, corpus)
    server.wait_listening()
    if not server.indexed.wait(SETTLE_SECONDS):
        raise SystemExit("the files were not indexed within five minutes")
    settle(binary, data)
    findings = cli(binary, data, "doctor")["findings"]
    server.stop()
    if findings:
        raise SystemExit(f"doctor found: {findings}")
    return state(data)


class Disk:
    """An ext4 file system of its own that can lose power."""

    def __init__(self, folder):
        self.image, self.point = folder / "disk.img", folder / "disk"
        self.point.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(2 << 30)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.point], check=True)

    def lose_power(self, server):
        directory = os.open(self.point, os.O_RDONLY)
        fcntl.ioctl(directory, EXT4_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, sys.byteorder))
        server.kill()
        os.close(directory)
        subprocess.run(["umount", self.point], check=True)
        self.mount()

    def remove(self):
        subprocess.run(["umount", self.point], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=["kill", "power"])
    parser.add_argument("binary")
    parser.add_argument("models", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)

    folder = Path(tempfile.mkdtemp(prefix="holdfast-survive-"))
    corpus = folder / "corpus"
    shutil.copytree(options.corpus, corpus)
    subprocess.run(["chmod", "-R", "u+w", corpus], check=True)
    disk = Disk(folder) if options.mode == "power" else None
    home = disk.point if disk else folder
    data = str(home / "data")

    def models_into(directory):
        shutil.copytree(options.models, Path(directory) / "models")

    models_into(data)
    key = cli(options.binary, data, "keys", "create", "survive")["key"]
    os.sync()
    acknowledged = []
    for round_number in range(options.rounds):
        server = Server(options.binary, data, str(corpus))
        if round_number % 2:
            # Half of the rounds strike the running server, half its start.
            server.wait_listening()
        disturb(server, key, corpus, chance, chance.uniform(0.05, 2.5), acknowledged)
        if disk:
            disk.lose_power(server)
        else:
            server.kill()
        if round_number % 10 == 9:
            print(f"{round_number + 1} rounds, {len(acknowledged)} acknowledged", flush=True)

    disturbed = finish(options.binary, data, str(corpus))
    calm = str(folder / "calm")
    models_into(calm)
    undisturbed = finish(options.binary, calm, str(corpus))
    failures = [name for name in ("files", "chunks") if disturbed[name] != undisturbed[name]]
    lost = set(acknowledged) - disturbed["given"]
    print(
        f"{options.mode}: {options.rounds} rounds, {len(disturbed['files'])} files,"
        f" {len(disturbed['chunks'])} chunks, {len(acknowledged)} acknowledged, {len(lost)} lost,"
        f" differing: {failures or 'nothing'}"
    )
    if disk:
        disk.remove()
    if failures or lost:
        print(f"kept for a look: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
