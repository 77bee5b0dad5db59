"""Measures the gateway from outside: what it adds to a call, beside the load generator and its upstream.

    gateway.py BINARY LOAD MODELS STATE [PART ...]

LOAD is the program of `crates/server/examples/gateway_load.rs`: it is the upstream and the clients. `bare_proxy` beside it hands
on and does nothing else: what a way through this machine costs. Parts: `latency` (1 KiB prompts at 2 000 and 5 000 requests a
second, in turns with direct calls, median of five runs), `streaming` (events of streams, in turns with direct ones), `streams` (512 at once for a minute), `throughput` (against nginx and LiteLLM where they are
installed: `nginx` in PATH, `litellm` in PATH or named by LITELLM), `memory` (200 000 requests). Prints figures as
JSON lines; exit code 0 if each is as promised.

Standard library only. Needs `wrk` for `throughput`.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from serving import Server

RUNS = 5
SECONDS = 10
RATES = [2_000, 5_000]
ADDED_P50_US = 200
ADDED_P99_US = 1_000
PROCESSOR_US = 80
FIRST_EVENT_P99_US = 1_000
GAP_P99_US = 500
EVENT_US = 10
STREAMS = 512
STREAM_SECONDS = 60
LATE_US = 50_000
STREAM_BYTES = 64 << 10
NGINX_RATIO = 0.35
LITELLM_RATIO = 50
REQUESTS = 200_000
SLOPE_MIB = 1
PARTS = ["latency", "streaming", "streams", "throughput", "memory"]


class Figures:
    def __init__(self):
        self.missed = []

    def add(self, name, value, promised, fits):
        print(json.dumps({"figure": name, "value": value, "promised": promised}), flush=True)
        if not fits:
            self.missed.append(name)

    def tell(self, name, value):
        print(json.dumps({"figure": name, "value": round(value, 1)}), flush=True)

    def most(self, name, value, limit):
        self.add(name, round(value, 1), f"at most {limit}", value <= limit)


class Bench:
    def __init__(self, binary, load, models, state):
        self.load = load
        self.state = state
        self.upstream_process = subprocess.Popen(
            [load, "upstream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.upstream = json.loads(self.upstream_process.stdout.readline())["address"]
        data = Path(tempfile.mkdtemp(prefix="gateway-", dir=state))
        os.environ["HOLDFAST_LIMITS__ENABLED"] = "false"
        self.server = Server(binary, models, data, "up")
        del os.environ["HOLDFAST_LIMITS__ENABLED"]
        listening = self.server.until("listening")
        self.url = listening["url"]
        self.address = self.url.removeprefix("http://")
        self.key = listening["admin_key"]
        threading.Thread(target=lambda: all(self.server.process.stdout), daemon=True).start()
        add = ["providers", "add", "mock", "--url", f"http://{self.upstream}/v1", "--model", "mock"]
        # More than the streams at once: waiting for a place is not what is measured.
        self.server.cli(*add, "--concurrency", str(2 * STREAMS))
        self.pid = self.server.process.pid
        bare = [Path(load).with_name("bare_proxy"), self.upstream]
        self.bare = subprocess.Popen(bare, stdout=subprocess.PIPE, text=True)
        self.bare_address = self.bare.stdout.readline().strip()

    def end(self):
        self.server.stop()
        self.bare.terminate()
        self.bare.wait(30)
        self.upstream_process.stdin.close()
        self.upstream_process.wait(30)

    def ask_bare(self, mode, **command):
        return self.ask(mode, (self.bare_address, self.bare.pid), **command)

    def ask(self, mode, of=None, **command):
        address, pid = of or (self.address, self.pid)
        command |= {"direct": self.upstream, "gateway": address, "key": self.key, "pid": pid}
        run = subprocess.run(
            [self.load, mode], input=json.dumps(command), capture_output=True, text=True, timeout=600
        )
        if run.returncode:
            raise SystemExit(f"{mode} failed: {run.stderr}")
        answer = json.loads(run.stdout)
        for way in ["direct", "gateway"]:
            if answer[way]["failed"]:
                raise SystemExit(f"{answer[way]['failed']} {way} calls failed: {answer[way]['first_failure']}")
        return answer


def latency(bench, figures):
    bench.ask("latency", rate=500, seconds=3, clients=32)
    for rate in RATES:
        runs = [bench.ask("latency", rate=rate, seconds=SECONDS, clients=64) for _ in range(RUNS)]

        def added(percentile):
            return statistics.median(
                run["gateway"]["took_us"][percentile] - run["direct"]["took_us"][percentile] for run in runs
            )

        figures.most(f"{rate}/s: added latency, p50, us", added("p50"), ADDED_P50_US)
        figures.most(f"{rate}/s: added latency, p99, us", added("p99"), ADDED_P99_US)
        processor = statistics.median(run["processor_us"] for run in runs)
        figures.most(f"{rate}/s: processor time a request, us", processor, PROCESSOR_US)
        bare = bench.ask_bare("latency", rate=rate, seconds=SECONDS, clients=64)
        figures.tell(f"{rate}/s: the same of a bare proxy, us", bare["processor_us"])


def streaming(bench, figures):
    runs = [bench.ask("stream", seconds=SECONDS, streams=32, events=50, gap_us=20_000) for _ in range(RUNS)]

    def added(of):
        return statistics.median(run["gateway"][of]["p99"] - run["direct"][of]["p99"] for run in runs)

    figures.most("time to first event added, p99, us", added("took_us"), FIRST_EVENT_P99_US)
    figures.most("gap added, p99, us", added("gap_us"), GAP_P99_US)
    # One stream's start is spread over its events here; long streams tell what an event takes.
    long = bench.ask("stream", seconds=SECONDS, streams=32, events=1_000, gap_us=5_000, alone=True)
    figures.most("processor time a relayed event, us", long["processor_us_an_event"], EVENT_US)
    bare = bench.ask_bare("stream", seconds=SECONDS, streams=32, events=1_000, gap_us=5_000, alone=True)
    figures.tell("the same of a bare proxy, us", bare["processor_us_an_event"])


def streams(bench, figures):
    run = bench.ask("stream", seconds=STREAM_SECONDS, streams=STREAMS, events=100, gap_us=100_000, alone=True)
    figures.add(f"{STREAMS} streams: completed, failed", [run["gateway"]["count"], 0], "all", True)
    figures.most(f"{STREAMS} streams: the latest event, us", run["gateway"]["late_us"]["max"], LATE_US)
    figures.most(f"{STREAMS} streams: memory a stream, bytes", run["memory_bytes_a_stream"], STREAM_BYTES)


def wrk(url, key, connections, seconds=SECONDS):
    prompt = ("The keeper of the lighthouse counted the ships at dusk. " * 20)[:1024]
    body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": prompt}]})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = {json.dumps(body)}\n")
        script.write("wrk.headers['Content-Type'] = 'application/json'\n")
        script.write(f"wrk.headers['Authorization'] = 'Bearer {key}'\n")
        script.flush()
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", script.name, url]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(f"{url}: {told}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until_open(port, process, seconds=120):
    for _ in range(seconds * 10):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        try:
            return socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{process.args[0]} does not listen")


def nginx(bench, folder):
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream mock {{ server {bench.upstream}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}"""
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL)
    until_open(port, process)
    return process, f"http://127.0.0.1:{port}/v1/chat/completions", "none"


def litellm(bench, folder):
    port = free_port()
    key = "sk-holdfast-bench-0123456789abcdef"
    (folder / "litellm.yaml").write_text(
        f"""model_list:
  - model_name: mock
    litellm_params: {{ model: openai/mock, api_base: "http://{bench.upstream}/v1", api_key: none }}
general_settings: {{ master_key: {key} }}
"""
    )
    environment = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    command = [os.environ.get("LITELLM", "litellm"), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "2", "--telemetry", "False"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_open(port, process)
    return process, f"http://127.0.0.1:{port}/v1/chat/completions", key


def throughput(bench, figures):
    folder = Path(tempfile.mkdtemp(prefix="peers-", dir=bench.state))
    ours = f"{bench.url}/v1/chat/completions"
    peers = [(nginx, "nginx proxy_pass", NGINX_RATIO, 64), (litellm, "LiteLLM", LITELLM_RATIO, 32)]
    for start, name, ratio, connections in peers:
        program = "nginx" if start is nginx else os.environ.get("LITELLM", "litellm")
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing: apt install nginx-light, pip install 'litellm[proxy]'")
        process, url, key = start(bench, folder)
        try:
            wrk(url, key, connections, 3)
            # In turns, since the machine's speed varies by the minute.
            pairs = [(wrk(ours, bench.key, connections), wrk(url, key, connections)) for _ in range(3)]
        finally:
            process.terminate()
            process.wait(60)
        measured = statistics.median(mine / theirs for mine, theirs in pairs)
        rates = [[round(mine), round(theirs)] for mine, theirs in pairs]
        figures.add(f"throughput against {name}", [round(measured, 2), rates], f"at least {ratio}", measured >= ratio)


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def memory(bench, figures):
    url = f"{bench.url}/v1/chat/completions"
    wrk(url, bench.key, 32, 10)
    samples, done = [], 0
    rate = wrk(url, bench.key, 32, 3)
    while done < REQUESTS:
        done += int(wrk(url, bench.key, 32, 3) * 3)
        samples.append((done, resident_kib(bench.pid)))
    mean_x = statistics.mean(x for x, _ in samples)
    mean_y = statistics.mean(y for _, y in samples)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in samples) / sum((x - mean_x) ** 2 for x, _ in samples)
    grown = slope * REQUESTS / 1024
    print(json.dumps({"requests": done, "a_second": rate, "resident_mib": [round(y / 1024, 1) for _, y in samples]}))
    figures.most(f"memory over {REQUESTS} requests, MiB by least squares", grown, SLOPE_MIB)


def main():
    binary, load, models, state, *parts = sys.argv[1:]
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise SystemExit(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures = Figures()
    bench = Bench(binary, load, models, state)
    try:
        for part in parts or PARTS:
            globals()[part](bench, figures)
    finally:
        bench.end()
    if figures.missed:
        raise SystemExit("missed: " + ", ".join(figures.missed))


if __name__ == "__main__":
    main()
