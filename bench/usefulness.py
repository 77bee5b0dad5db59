"""What ranking gains from being told which documents were of use, measured from outside with a simulated user.

    usefulness.py BINARY MODELS SCIFACT STATE

SCIFACT has BEIR's `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`. The user asks a question of the set, looks at the ten results from
the top, at the one of rank r with probability 1/r, and uses what he looks at with probability 0.9 where it is relevant and
0.05 where it is not. What he used is told to the server as an agent would tell it. After every 500 uses all questions are
asked again, with what was learned and without it (`"usefulness": false`), and nDCG@10 is compared question by question: the mean
difference with a 95 % interval of 10 000 bootstrap samples. Then the same with an adversary, who is one use in ten, and uses
what is not relevant. Prints JSON lines; exit code 0 if the interval is above zero after 2 000 uses, and with the adversary
the mean never below what it was without what was learned.

Standard library only.
"""

import json
import math
import random
import sys
import time
from pathlib import Path

from serving import Server, index, write_files

USES = 2_000
EVERY = 500
DEPTH = 10
RELEVANT = 0.9
IRRELEVANT = 0.05
ADVERSARY = 0.1
SAMPLES = 10_000
SEED = 20_261_201


def load(scifact):
    queries = {}
    for line in (scifact / "queries.jsonl").read_text().splitlines():
        query = json.loads(line)
        queries[str(query["_id"])] = query["text"]
    relevant = {}
    for line in (scifact / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0:
            relevant.setdefault(query, set()).add(document)
    return [(queries[query], documents) for query, documents in sorted(relevant.items()) if query in queries]


def ranked(server, query, learned):
    body = {"query": query, "limit": DEPTH, "group": "document", "usefulness": learned}
    status, answer = server.call("POST", "/api/v1/search", body)
    if status != 200:
        raise SystemExit(f"search failed: {status} {answer}")
    return [(Path(result["path"]).stem, result["document_id"]) for result in answer["results"]]


def ndcg(found, relevant):
    gained = sum(1 / math.log2(rank + 2) for rank, (name, _) in enumerate(found) if name in relevant)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(len(relevant), DEPTH)))


def difference(server, questions, chance):
    """The mean nDCG without what was learned, and how much more it is with it, with its interval."""
    pairs = [
        (ndcg(ranked(server, query, False), relevant), ndcg(ranked(server, query, True), relevant))
        for query, relevant in questions
    ]
    gains = [learned - plain for plain, learned in pairs]
    means = sorted(sum(chance.choices(gains, k=len(gains))) / len(gains) for _ in range(SAMPLES))
    plain = sum(plain for plain, _ in pairs) / len(pairs)
    return plain, sum(gains) / len(gains), (means[int(SAMPLES * 0.025)], means[int(SAMPLES * 0.975)])


def told(server, query, found, used):
    body = {"question": query, "answer": "", "context": [document for _, document in found]}
    status, answer = server.call("POST", "/api/v1/interactions", body)
    if status != 201:
        raise SystemExit(f"not on record: {status} {answer}")
    outcome = {"useful": used, "source": "simulated"}
    status, answer = server.call("POST", f"/api/v1/interactions/{answer['id']}/outcome", outcome)
    if status != 200:
        raise SystemExit(f"not on record: {status} {answer}")


def learned(server):
    """Waits until what was told is what ranking goes by."""
    while True:
        _, stats = server.call("GET", "/api/v1/learning/stats")
        stage = next((stage for stage in stats["stages"] if stage["name"] == "interactions"), None)
        if stage and stage["lag"] == 0 and stats["values_due"] == 0:
            # It is told at most every five seconds.
            time.sleep(6)
            return
        time.sleep(0.2)


def run(binary, models, data, questions, adversary):
    for name in ["events", "learning"]:
        for path in (data / "db").glob(f"{name}.db*"):
            path.unlink()
    server = Server(binary, models, data, "up")
    server.connect(server.until("listening")["url"])
    server.key = server.cli("keys", "create", f"user-{time.time_ns()}")["key"]
    while server.call("POST", "/api/v1/search", {"query": "a first look"})[0] != 200:
        time.sleep(0.2)
    chance = random.Random(SEED)
    uses, steps = 0, []
    while uses < USES:
        query, relevant = chance.choice(questions)
        found = ranked(server, query, True)
        if chance.random() < adversary:
            used = [document for name, document in found if name not in relevant][-1:]
        else:
            looked = [place for rank, place in enumerate(found) if chance.random() < 1 / (rank + 1)]
            used = [
                document
                for name, document in looked
                if chance.random() < (RELEVANT if name in relevant else IRRELEVANT)
            ]
        if used:
            told(server, query, found, used)
        before, uses = uses, uses + len(used)
        if before // EVERY != uses // EVERY:
            learned(server)
            plain, gain, interval = difference(server, questions, chance)
            steps.append({"uses": uses, "ndcg": round(plain, 4), "gain": round(gain, 4), "interval": [round(end, 4) for end in interval]})
            print(json.dumps({"adversary": adversary, **steps[-1]}), flush=True)
    server.stop()
    return steps


def main():
    binary, models, scifact, state = sys.argv[1], *map(Path, sys.argv[2:5])
    files = state / "files"
    write_files(scifact / "corpus.jsonl", files)
    data = state / "data"
    index(binary, models, data, files)
    import os

    os.environ["HOLDFAST_LIMITS__ENABLED"] = "false"
    questions = load(scifact)
    honest = run(binary, models, data, questions, 0.0)
    attacked = run(binary, models, data, questions, ADVERSARY)
    missed = []
    if honest[-1]["interval"][0] <= 0:
        missed.append("the interval after 2 000 uses is not above zero")
    if min(step["gain"] for step in attacked) < 0:
        missed.append("with the adversary it is worse than without what was learned")
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
