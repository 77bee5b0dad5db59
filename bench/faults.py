"""Troubles a running Holdfast with a disk that fails or is full, and looks whether it copes.

    faults.py errors BINARY MODELS CORPUS     (strace)
    faults.py full   BINARY MODELS CORPUS     (root; a small tmpfs and a small ext4 on a loop device)
    faults.py many   BINARY MODELS CORPUS

`errors` lets system calls on files fail for a while in the midst of indexing and of requests. `full`
puts the data directory on a small file system and fills that up. While the trouble lasts, writing
must be refused with a coded error or succeed, and searching must go on; once it is over, everything
must be indexed without anybody's help, `doctor` must find nothing, what was acknowledged must be
there, and the log must tell of no panic. A data directory that cannot be written must be refused
with a code. `many` indexes 200 000 equal files and follows the memory. Exit code 0 if it is so.

Standard library only.
"""

import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

START_SECONDS = 60
MANY = 200_000
# 200 000 vectors take 154 MB, the model and its buffers as much.
RESIDENT_MAX_MB = 550
RECOVERY_SECONDS = 120
# Within which the probe must tell of the recovery.
HEALTH_SECONDS = 10

# System calls that fail together, and with which error.
ERRORS = [
    ("fdatasync,fsync", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pread64", "EIO"),
    ("ftruncate,fallocate", "ENOSPC"),
    ("rename,renameat,renameat2", "EACCES"),
    ("unlink,unlinkat", "EIO"),
    ("openat", "EMFILE"),
]
# Every third call fails, so that retrying meets both.
WHICH = "1+3"


class Server:
    """A running server, perhaps under strace."""

    def __init__(self, binary, data, corpus):
        self.binary, self.data = binary, data
        self.log = open(Path(tempfile.mkstemp(prefix="holdfast-faults-")[1]), "w+")
        self.process = subprocess.Popen(
            [binary, "--data-dir", str(data), "--listen", "127.0.0.1:0", "--json", "up", str(corpus)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        # Whatever ends the script ends the server.
        atexit.register(self.process.kill)
        self.listening, self.indexed = threading.Event(), threading.Event()
        threading.Thread(target=self.follow, daemon=True).start()
        if not self.listening.wait(START_SECONDS) or self.process.poll() is not None:
            raise SystemExit(f"the server did not start: {self.told()}")
        self.key = cli(binary, data, "keys", "create", f"faults-{os.getpid()}")["key"]

    def follow(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "listening":
                self.address = event["url"].removeprefix("http://")
                self.listening.set()
            elif event.get("event") == "indexed":
                self.indexed.set()
        self.listening.set()

    def told(self):
        self.log.seek(0)
        return self.log.read()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def put(self, name):
        document = {"id": name, "content": f"A document called {name}. " + "It has some length. " * 50}
        return self.call("POST", "/api/v1/documents", {"documents": [document], "wait": False})

    def check_alive(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the server died with {self.process.returncode}: {self.told()}")

    def check_told(self):
        for word in ("panicked", "SIGBUS", "stack backtrace"):
            if word in self.told():
                raise SystemExit(f"the log tells of a panic: {self.told()}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self.check_told()
        if code != 0:
            raise SystemExit(f"the server ended with {code}: {self.told()}")


def cli(binary, data, *arguments):
    run = subprocess.run([binary, "--data-dir", str(data), "--json", *arguments], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{arguments} failed: {run.stdout}{run.stderr}")
    return json.loads(run.stdout)


def coded(status, answer):
    """Whether an answer is a success or a problem with a code."""
    return status < 400 or (isinstance(answer, dict) and "code" in answer and "detail" in answer)


def trouble(server, acknowledged, seconds, until=None):
    """Writes and searches for a while; what came of it, by status."""
    seen = {}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and not (until and until(seen)):
        name = f"given-{len(acknowledged)}-{number}"
        number += 1
        for kind, (status, answer) in (
            ("write", server.put(name)),
            ("search", server.call("POST", "/api/v1/search", {"query": f"how to install {number}"})),
        ):
            server.check_alive()
            if not coded(status, answer):
                raise SystemExit(f"{kind} was answered {status} without a code: {answer}")
            code = f"{status} {answer['code']}" if status >= 400 else str(status)
            seen[f"{kind}: {code}"] = seen.get(f"{kind}: {code}", 0) + 1
            if kind == "write" and status < 300:
                acknowledged[name] = answer["job_id"]
        time.sleep(0.05)
    return seen


def recover(server, acknowledged, wanted):
    """Waits until everything is in, and looks at it."""
    end = time.monotonic() + RECOVERY_SECONDS
    status = None
    while time.monotonic() < end:
        server.check_alive()
        status, _ = server.put("after the trouble")
        jobs = server.call("GET", "/api/v1/jobs?limit=100")[1]
        busy = [job for job in jobs.get("jobs", [{"state": "unknown"}]) if job["state"] not in ("done", "failed")]
        missing = None if status >= 300 or busy or not server.indexed.is_set() else wanted - documents(server)
        if missing == set():
            break
        time.sleep(0.5)
    else:
        told = server.told()[-3000:]
        raise SystemExit(f"no recovery in {RECOVERY_SECONDS} s: last write {status}, missing {missing}, {told}")
    for name, job in acknowledged.items():
        if server.call("GET", f"/api/v1/documents/{name}")[0] != 200:
            raise SystemExit(f"{name} was acknowledged and is lost: {server.call('GET', f'/api/v1/jobs/{job}')[1]}")
    findings = cli(server.binary, server.data, "doctor")["findings"]
    if findings:
        raise SystemExit(f"doctor found: {findings}")
    # Health is measured every few seconds, so the probe may still tell of the trouble.
    end = time.monotonic() + HEALTH_SECONDS
    while (ready := server.call("GET", "/health/ready"))[0] != 200:
        if time.monotonic() > end:
            raise SystemExit(f"not ready {HEALTH_SECONDS} s after recovering: {ready}")
        time.sleep(0.2)


def documents(server):
    """The files that are in, by their paths."""
    paths, cursor = set(), None
    while True:
        page = server.call("GET", "/api/v1/documents?limit=500" + (f"&cursor={cursor}" if cursor else ""))[1]
        paths |= {document["path"] for document in page["documents"] if document["path"]}
        cursor = page["next_cursor"]
        if not cursor:
            return paths


def calm(binary, models, corpus, folder):
    """The files an untroubled server has."""
    data = prepare(folder / "calm", models)
    server = Server(binary, data, corpus)
    server.indexed.wait(600)
    paths = documents(server)
    server.stop()
    return paths


def prepare(data, models):
    data.mkdir(parents=True)
    (data / "models").symlink_to(models)
    return data


def errors(binary, models, corpus, folder):
    wanted = calm(binary, models, corpus, folder)
    for number, (calls, error) in enumerate(ERRORS):
        data = prepare(folder / f"errors-{number}", models)
        server = Server(binary, data, corpus)
        acknowledged = {}
        trouble(server, acknowledged, 1)
        inject = f"inject={calls}:error={error}:when={WHICH}"
        strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(server.process.pid), "-e", f"trace={calls}", "-e", inject]
        )
        seen = trouble(server, acknowledged, 10)
        strace.send_signal(signal.SIGINT)
        strace.wait()
        recover(server, acknowledged, wanted)
        server.stop()
        report = {"fault": f"{calls} {error}", "answers meanwhile": seen, "acknowledged": len(acknowledged), "lost": 0}
        print(json.dumps(report), flush=True)


def full(binary, models, corpus, folder):
    read_only(binary, models, folder)
    wanted = calm(binary, models, corpus, folder)
    for kind in ("tmpfs", "ext4"):
        point = folder / kind
        point.mkdir()
        if kind == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "holdfast-faults", point], check=True)
        else:
            image = folder / "disk.img"
            with open(image, "wb") as disk:
                disk.truncate(64 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, point], check=True)
        try:
            fill_up(binary, models, corpus, point, kind, wanted)
        finally:
            subprocess.run(["umount", point], check=True)


def fill_up(binary, models, corpus, point, kind, wanted):
    data = prepare(point / "data", models)
    ballast = point / "ballast"
    server = Server(binary, data, corpus)
    acknowledged = {}
    seen = trouble(server, acknowledged, 3)
    fill(ballast)
    refused = lambda seen: any(name.startswith("write: 5") for name in seen)
    seen = trouble(server, acknowledged, 30, refused)
    if not refused(seen):
        raise SystemExit(f"the disk is full and nothing was refused: {seen}")
    seen = trouble(server, acknowledged, 10)
    unready = server.call("GET", "/health/ready")
    # A crash in the midst of it, and a start without space.
    server.process.kill()
    server.process.wait()
    server.check_told()
    again = subprocess.Popen(
        [binary, "--data-dir", str(data), "--listen", "127.0.0.1:0", "--json", "up", str(corpus)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(5)
    started = again.poll() is None
    if started:
        again.terminate()
    _, said = again.communicate(timeout=60)
    if "panicked" in said or (not started and '"code"' not in said):
        raise SystemExit(f"starting on a full disk ended badly: {again.returncode} {said}")
    ballast.unlink()
    server = Server(binary, data, corpus)
    fill(ballast)
    trouble(server, acknowledged, 10)
    ballast.unlink()
    recover(server, acknowledged, wanted)
    server.stop()
    report = {
        "fault": f"full {kind}",
        "answers": seen,
        "ready": unready[0],
        "started without space": started,
        "acknowledged": len(acknowledged),
        "lost": 0,
    }
    print(json.dumps(report), flush=True)


def read_only(binary, models, folder):
    """A data directory on a file system that cannot be written."""
    point = folder / "read-only"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "holdfast-faults", point], check=True)
    try:
        data = prepare(point / "data", models)
        cli(binary, data, "status")
        subprocess.run(["mount", "-o", "remount,ro", point], check=True)
        command = [binary, "--data-dir", str(data), "--json", "up"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if run.returncode != 1 or '"code"' not in run.stderr or "panicked" in run.stderr:
            raise SystemExit(f"a read-only data directory: {run.returncode} {run.stdout}{run.stderr}")
        problem = json.loads(run.stderr.strip().splitlines()[-1])
        if problem["code"] != "storage_read_only":
            raise SystemExit(f"a read-only data directory: {problem}")
        print(json.dumps({"fault": "read-only", "code": problem["code"], "hint": problem.get("hint")}), flush=True)
    finally:
        subprocess.run(["umount", point], check=True)


def many(binary, models, corpus, folder):
    """Very many small files of equal content, and the most memory they take."""
    files = folder / "files"
    for number in range(MANY):
        part = files / str(number % 200)
        if number < 200:
            part.mkdir(parents=True)
        (part / f"{number}.txt").write_text("The same words in every file.")
    data = prepare(folder / "many", models)
    began = time.monotonic()
    server = Server(binary, data, files)
    most = 0
    while not server.indexed.wait(0.2):
        server.check_alive()
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        most = max(most, *(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")))
    seconds = round(time.monotonic() - began, 1)
    held = server.call("GET", "/api/v1/collections/default")[1]["documents"]
    server.stop()
    print(json.dumps({"files": MANY, "documents": held, "seconds": seconds, "most resident, MB": most}), flush=True)
    if held != MANY or most > RESIDENT_MAX_MB:
        raise SystemExit(f"{held} documents in {most} MB")


def fill(ballast):
    """Takes all the space there is."""
    with open(ballast, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
            except OSError:
                pass


def main():
    kind, binary, models, corpus = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="holdfast-faults-"))
    run = {"errors": errors, "full": full, "many": many}[kind]
    run(binary, Path(models).resolve(), Path(corpus).resolve(), folder)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
