"""Whether the patterns are found that are there, measured from outside.

    patterns.py BINARY MODELS STATE

An agent tells of 2 000 interactions that succeeded: 35 questions about each of 40 known problems (`problems.py`), and 600
questions of other subjects (`noise.py`). A pattern is of a problem if more than half of its evidence is; it is junk if it
is of none. Then each problem is searched for with five paraphrases, none of which was told. Last, it is told of the same ten
failures with other numbers, paths and ids, and each is pasted into a search in a form that was never told. Prints JSON lines; exit
code 0 if at least 36 problems are found, at most a tenth is junk, and at least nine in ten searches have what they are for
among the first three.

Standard library only.
"""

import json
import os
import random
import sys
import time
import uuid
from pathlib import Path

from problems import PROBLEMS, made
from serving import Server

SEED = 20_261_202
TOGETHER = 100
FIRST = 3

# Ten failures, with what changes from one time to the next, and what solves them.
FAILURES = [
    ("Traceback (most recent call last):\n  File \"/srv/{a}/main.py\", line {n}, in <module>\nModuleNotFoundError: No module named 'requests'", "Install requests into the virtual environment."),
    ("Error: listen EADDRINUSE: address already in use :::{n}\n    at Server.setupListenHandle (node:net:{n}:16)", "Stop the process that listens there."),
    ("error[E0382]: borrow of moved value: `config`\n  --> src/{a}.rs:{n}:{m}", "Clone it, or borrow it where it is moved."),
    ("psycopg2.OperationalError: connection to server at \"10.0.{m}.{m}\", port {n} failed: Connection refused", "Start PostgreSQL, and have it listen on that address."),
    ("fatal: Unable to create '/srv/{a}/.git/index.lock': File exists.", "Remove the lock after making sure no git runs."),
    ("kubectl: Error from server (Forbidden): pods \"{a}-{n}\" is forbidden: User \"{a}\" cannot get resource \"pods\"", "Bind a role that may get pods."),
    ("java.lang.OutOfMemoryError: Java heap space\n\tat com.example.{a}.Loader.load(Loader.java:{n})", "Raise -Xmx or stream the file."),
    ("npm ERR! code ERESOLVE\nnpm ERR! ERESOLVE unable to resolve dependency tree\nnpm ERR! While resolving: {a}@0.{m}.0", "Pin the peer dependency, or use --legacy-peer-deps."),
    ("thread 'main' panicked at src/{a}.rs:{n}:{m}:\nindex out of bounds: the len is {m} but the index is {n}", "Check the index before."),
    ("OSError: [Errno 28] No space left on device: '/var/lib/{a}/{n}.tmp'", "Free the disk; old logs first."),
]
NAMES = ["amber", "birch", "cedar", "dune", "ember", "fjord"]


def told(server, events):
    for start in range(0, len(events), TOGETHER):
        status, answer = server.call("POST", "/api/v1/events", {"events": events[start : start + TOGETHER]})
        if status != 201:
            raise SystemExit(f"not on record: {status} {answer}")


def interaction(identity, **fields):
    return {"kind": "interaction_told", "interaction": identity, "outcome": "success", **fields}


def settled(server):
    """Waits until everything is derived and nothing changes any more; how long that took."""
    began, before, since = time.monotonic(), None, 0
    while since < 20:
        time.sleep(1)
        _, stats = server.call("GET", "/api/v1/learning/stats")
        stage = next((stage for stage in stats["stages"] if stage["name"] == "interactions"), None)
        is_derived = stage and stage["lag"] == 0 and stats["vectors_due"] + stats["values_due"] == 0
        since = since + 1 if is_derived and stats["lessons"] == before else 0
        before = stats["lessons"]
    return round(time.monotonic() - began - since, 1), before


def listed(server, path, name):
    items, cursor = [], ""
    while cursor is not None:
        status, answer = server.call("GET", f"{path}?limit=100" + (f"&cursor={cursor}" if cursor else ""))
        if status != 200:
            raise SystemExit(f"no list: {status} {answer}")
        items += answer[name]
        cursor = answer["next_cursor"]
    return items


def found(server, query):
    """What a search finds first, where nobody says where to search."""
    status, answer = server.call("POST", "/api/v1/search", {"query": query, "limit": FIRST, "group": "document"})
    if status != 200:
        raise SystemExit(f"search failed: {status} {answer}")
    return [result["document_id"] for result in answer["results"]]


def failure(template, chance):
    return template.format(a=chance.choice(NAMES), n=chance.randrange(100, 9_999), m=chance.randrange(1, 99))


def main():
    binary, models, state = sys.argv[1], *map(Path, sys.argv[2:4])
    os.environ["HOLDFAST_LIMITS__ENABLED"] = "false"
    server = Server(binary, models, state / "data", "up")
    server.connect(server.until("listening")["url"])
    server.key = server.cli("keys", "create", f"agent-{time.time_ns()}")["key"]
    while server.call("POST", "/api/v1/search", {"query": "a first look"})[0] != 200:
        time.sleep(0.2)
    asked = [(str(uuid.uuid4()), *one) for one in made(SEED, 35, 600)]
    of = {identity: problem for identity, _, _, problem in asked}
    told(server, [interaction(identity, question=question, answer=answer) for identity, question, answer, _ in asked])
    seconds, counts = settled(server)
    print(json.dumps({"interactions": len(asked), "derived_in_s": seconds, **counts}), flush=True)

    patterns = listed(server, "/api/v1/learning/patterns", "patterns")
    problem_of = {}
    for pattern in patterns:
        problems = [of[identity] for identity in pattern["evidence"]]
        most = max(set(problems) - {None} or {None}, key=problems.count)
        if most and problems.count(most) * 2 > len(problems):
            problem_of[pattern["id"]] = most
    problems, junk = set(problem_of.values()), len(patterns) - len(problem_of)
    print(json.dumps({"patterns": len(patterns), "problems_found": len(problems), "of_no_problem": junk}), flush=True)

    asked, hits = 0, 0
    for name, _, _, paraphrases in PROBLEMS:
        for query in paraphrases:
            answers = [problem_of.get(document.removeprefix("pattern-")) for document in found(server, query)]
            asked, hits = asked + 1, hits + (name in answers)
    print(json.dumps({"paraphrases": asked, "among_first_three": hits}), flush=True)

    chance, before = random.Random(SEED), {error["id"] for error in listed(server, "/api/v1/learning/errors", "errors")}
    events = [
        interaction(str(uuid.uuid4()), question=f"what is this?\n\n{failure(template, chance)}", answer=solution)
        for template, solution in FAILURES
        for _ in range(5)
    ]
    told(server, events)
    settled(server)
    errors = [error for error in listed(server, "/api/v1/learning/errors", "errors") if error["id"] not in before]
    pasted, known = 0, 0
    for template, solution in FAILURES:
        for _ in range(5):
            status, answer = server.call(
                "POST", "/api/v1/search", {"query": failure(template, chance), "limit": FIRST, "group": "document"}
            )
            pasted += 1
            known += any(
                result["document_id"].startswith("error-") and solution in json.dumps(result) for result in answer["results"]
            )
    unsolved = sum(not error["solved_by"] for error in errors)
    print(json.dumps({"failures": len(errors), "unsolved": unsolved, "pasted": pasted, "known": known}), flush=True)
    server.stop()
    good = len(problems) >= 36 and junk * 10 <= len(patterns) and hits * 10 >= asked * 9 and known * 10 >= pasted * 9
    sys.exit(0 if good and not unsolved else 1)


if __name__ == "__main__":
    main()
