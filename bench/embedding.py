"""The encoder against ONNX Runtime on the same texts, in turns, so that a slow moment of the machine hits both.

    embedding.py EMBED_ROUNDS MODEL SCIFACT BASELINE WORK

EMBED_ROUNDS is our side, built from crates/embedding/examples/embed_rounds.rs. BASELINE is the script that makes the
graphs ONNX Runtime runs: f32 and int8 with a scale an output, each as exported and with ONNX Runtime's own fused
operators. WORK keeps the graphs. Each of theirs is measured with its best batch size, in batches sorted by length; ours
gets the texts as they come, and tokenizes them, which theirs need not.
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

THREADS = 2
ROUNDS = 3
ABSTRACTS = 300
BATCHES = (8, 16, 32)
WINDOW = 256
PEERS = {
    "ort int8 per channel": "int8-pc.onnx",
    "ort int8 fused": "int8-fused.onnx",
    "ort f32": "f32.onnx",
    "ort f32 fused": "f32-fused.onnx",
}
OURS = ("int8", "f32")
# Each of these is one token of the vocabulary.
WORDS = ("water", "science", "house", "music", "river", "market", "paper", "light")
# Multiplications and additions of the linear layers of all-MiniLM-L6-v2, for one token.
LINEAR_OPERATIONS = 6 * 2 * (384 * 1152 + 384 * 384 + 2 * 384 * 1536)
SENTENCES = 5_000
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# Promised of int8 against f32.
MEAN_COSINE, LOW_COSINE = 0.995, 0.98
# How often ONNX Runtime's speed is promised for int8; for f32 it is once.
PROMISED = {"abstracts": 1.5, "claims": 1.5, "32x32": 1.2}


def show(**figures):
    print(json.dumps(figures), flush=True)


def equal_texts(count, tokens):
    return [" ".join(WORDS[(text * 7 + at * 3) % len(WORDS)] for at in range(tokens - 2)) for text in range(count)]


class Ours:
    """Our encoder in a process of its own."""

    def __init__(self, program, model, precision):
        self.process = subprocess.Popen(
            [program, model, precision], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.given = None

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def give(self, name, texts):
        if self.given != name:
            self.tokens = self.ask(texts=texts)["tokens"]
            self.given = name

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


class Peer:
    """One graph in ONNX Runtime."""

    def __init__(self, path):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, batches):
        started = perf_counter()
        for ids, mask in batches:
            self.session.run(None, {"i": ids, "m": mask})
        return perf_counter() - started


def padded(rows):
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return ids, mask


def batched(tokens, size):
    rows = sorted(tokens, key=len)
    return [padded(rows[at : at + size]) for at in range(0, len(rows), size)]


def graphs(baseline, model, scifact, work):
    """Lets the baseline script make its graphs, with as little of its own measuring as it can do."""
    if all((work / name).is_file() for name in PEERS.values()):
        return
    subprocess.run(
        [sys.executable, baseline, "--model", model, "--scifact", scifact, "--out", work, "--rounds", "1"]
        + ["--abstracts", "16", "--engines", "f32"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def throughput(name, texts, tokens, ours, peers):
    total = sum(map(len, tokens))
    sizes = [len(texts)] if name == "32x32" else BATCHES
    sample = {size: batched(tokens[:64] if name != "32x32" else tokens, size) for size in sizes}
    best = {}
    for peer, session in peers.items():
        session.run(sample[sizes[0]])
        best[peer] = min(sizes, key=lambda size: min(session.run(sample[size]) for _ in range(2)))
    work = {peer: batched(tokens, size) for peer, size in best.items()}
    repeats = max(1, 20_000 // total)
    seconds = {engine: [] for engine in [*ours, *peers]}
    stages = {}
    for engine in ours:
        ours[engine].give(name, texts)
        assert ours[engine].tokens == total, (ours[engine].tokens, total)
        ours[engine].ask(all=True)
    for _ in range(ROUNDS):
        for engine in ours:
            spent = [ours[engine].ask(all=True) for _ in range(repeats)]
            seconds[engine].append(statistics.mean(answer["seconds"] for answer in spent))
            stages[engine] = spent[-1]
        for peer, session in peers.items():
            seconds[peer].append(statistics.mean(session.run(work[peer]) for _ in range(repeats)))
    rates = {engine: total / statistics.median(spent) for engine, spent in seconds.items()}
    show(set=name, texts=len(texts), tokens=total, tokens_per_second={k: round(v) for k, v in rates.items()}, batch=best)
    for precision in OURS:
        rival = max((peer for peer in peers if precision in peer), key=rates.get)
        show(set=name, figure=f"{precision} against the better {rival}", ratio=round(rates[precision] / rates[rival], 2))
    share(name, total, stages["int8"])
    return rates


def share(name, tokens, answer):
    """What each stage takes of the threads' time, and of the machine's peak in the linear layers."""
    spent = answer["stages"]
    whole = sum(spent.values())
    parts = {stage: round(seconds / whole, 3) for stage, seconds in spent.items()}
    show(set=name, figure="int8: share of the threads' time by stage", shares=parts)
    if answer["vnni_peak"]:
        operations = tokens * LINEAR_OPERATIONS
        show(
            set=name,
            figure="int8: operations a second against a loop in registers with AVX-512 VNNI on all cores",
            peak=f"{answer['vnni_peak'] / 1e9:.0f} GOP/s",
            linear_layers=round(operations / (spent["linear"] / THREADS) / answer["vnni_peak"], 3),
            whole=round(operations / answer["seconds"] / answer["vnni_peak"], 3),
        )


def latency(ours, peers, tokenizer):
    """One query of 16 tokens, nobody else there."""
    text = equal_texts(1, 16)
    work = padded([tokenizer.encode(text[0]).ids])
    assert work[0].shape == (1, 16)
    milliseconds = {engine: [] for engine in [*ours, *peers]}
    for turn in range(ROUNDS + 1):
        for engine in ours:
            ours[engine].give("one", text)
            answer = ours[engine].ask(alone=300)["milliseconds"]
            milliseconds[engine] += answer if turn else []
        for peer, session in peers.items():
            answer = [session.run([work]) * 1e3 for _ in range(300)]
            milliseconds[peer] += answer if turn else []
    show(
        figure="one query of 16 tokens, ms",
        p50={engine: round(statistics.median(spent), 3) for engine, spent in milliseconds.items()},
        p99={engine: round(float(np.percentile(spent, 99)), 3) for engine, spent in milliseconds.items()},
    )
    medians = {engine: statistics.median(spent) for engine, spent in milliseconds.items()}
    rival = min(medians[peer] for peer in peers if "int8" in peer)
    show(figure="one query of 16 tokens: int8 against the better ort int8", ratio=round(medians["int8"] / rival, 2))
    return medians["int8"] / rival


def quality(program, model, abstracts, work):
    """Bytes against floats: the cosine of the two vectors of each sentence."""
    sentences = [part for text in abstracts for part in SENTENCE_END.split(text) if part][:SENTENCES]
    texts = work / "sentences.jsonl"
    texts.write_text("".join(json.dumps(sentence) + "\n" for sentence in sentences))
    vectors = {}
    for precision in OURS:
        place = work / f"{precision}.jsonl"
        lines = Path(program).with_name("embed_lines")
        subprocess.run([lines, model, precision, texts, place], check=True, stderr=subprocess.DEVNULL)
        vectors[precision] = np.array([json.loads(line) for line in place.open()])
    cosines = (vectors["int8"] * vectors["f32"]).sum(axis=1)
    mean, low = float(cosines.mean()), float(np.percentile(cosines, 1))
    show(figure="int8 against f32: cosine", sentences=len(cosines), mean=round(mean, 5), percentile_1=round(low, 5))
    return mean >= MEAN_COSINE and low >= LOW_COSINE


def main():
    program, model, scifact, baseline, work = sys.argv[1:]
    scifact, work = Path(scifact), Path(work)
    graphs(baseline, model, scifact, work)
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WINDOW)
    read = lambda name: [json.loads(line)["text"] for line in open(scifact / name, encoding="utf-8")]
    sets = {
        "abstracts": read("corpus.jsonl")[:ABSTRACTS],
        "claims": read("queries.jsonl"),
        "32x32": equal_texts(32, 32),
    }
    ours = {precision: Ours(program, model, precision) for precision in OURS}
    peers = {name: Peer(work / path) for name, path in PEERS.items()}
    missed = []
    if not quality(program, model, read("corpus.jsonl"), work):
        missed.append("int8 is not close enough to f32")
    for name, texts in sets.items():
        tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        rates = throughput(name, texts, tokens, ours, peers)
        for precision, least in [("int8", PROMISED[name]), ("f32", 1.0)]:
            ratio = rates[precision] / max(rates[peer] for peer in peers if precision in peer)
            if ratio < least:
                missed.append(f"{name}, {precision}: {ratio:.2f} instead of {least}")
    ratio = latency(ours, peers, tokenizer)
    if ratio > 1.0:
        missed.append(f"one query: {ratio:.2f} of the time instead of at most 1")
    for engine in ours.values():
        engine.end()
    if missed:
        show(missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
