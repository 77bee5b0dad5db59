#!/usr/bin/env python3
"""Compares the encoder with sentence-transformers.

  encoder_reference.py texts FOLDER                       writes FOLDER/texts.jsonl, the same 1 000 texts every time
  encoder_reference.py reference FOLDER MODEL             runs sentence-transformers: FOLDER/reference.jsonl
  encoder_reference.py compare FOLDER [--minimum 0.9999]  compares FOLDER/vectors.jsonl with FOLDER/reference.jsonl

Between the last two, FOLDER/vectors.jsonl is written by
`cargo run --release -p holdfast-embedding --example embed_lines -- MODEL FOLDER/texts.jsonl FOLDER/vectors.jsonl`.
Only `reference` needs a package: `pip install sentence-transformers`.
"""

import argparse
import json
import math
import pathlib
import random
import sys
import unicodedata

TEXTS = 1000
MAX_WORDS = 600

ENGLISH = """the of and to in is that for it as with was on be by this are from at or have an they which one had not
but what all were when we there can your said use each she how their will other about out many then them these so
some her would make like him into time has look two more write go see number no way could people my than first water
been call who oil its now find long down day did get come made may part reproducibility configuration declarative
derivation nixpkgs attribute overlay hypothesis cytokine lymphocyte apoptosis inhibitor randomised placebo cohort
mitochondria transcription phosphorylation regression throughput latency asynchronous deserialisation idempotent
backpressure kubernetes postgresql vectorisation eigenvalue antidisestablishmentarianism""".split()

CODE = """fn main() {}|let x = vec![1, 2, 3];|services.nginx.enable = true;|E0382|self.assertEqual(a, b)|
#include <stdio.h>|https://example.org/a?b=c&d=%20|/nix/store/abc-1.2.3|user@example.com|snake_case_name|camelCaseName|
0xDEADBEEF|3.14159e-10|$HOME/.config|a+b==c|<div class="x">|{"key": [null, true]}|--flag=value|v1.2.3-rc.4""".split("|")

SCRIPTS = [  # first and last code point of scripts that take turns
    (0x00C0, 0x024F), (0x0370, 0x03FF), (0x0400, 0x04FF), (0x0530, 0x058F), (0x0590, 0x05FF), (0x0600, 0x06FF),
    (0x0900, 0x097F), (0x0E00, 0x0E7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2190, 0x22FF),
    (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF),
]

ODD = [
    "", " ", "\n\t\r", "\0", "a\0b", "\u0301", "e\u0301\u0302\u0303", "\ufeffbom", "\ufffd", "[SEP]", "[CLS] [MASK] [UNK]",
    "\u200b\u200d", "👩‍👩‍👧‍👦 🇩🇪", "a" * 99, "a" * 101, "x" * 5000, "日本語" * 300, "!" * 700, "\u0085\u000b\u000c", "İstanbul ǅ ﬁ ſ",
    "한국어 문장입니다", "ไม่มีช่องว่างในภาษาไทย", "نص عربي مع تَشكيل", "Ελληνικά ΣΊΣΥΦΟΣ", "a\u00a0b\u2028c\u3000d",
]


def word(rng):
    kind = rng.random()
    if kind < 0.70:
        text = rng.choice(ENGLISH)
        return text.capitalize() if rng.random() < 0.1 else text
    if kind < 0.78:
        return rng.choice(CODE).strip()
    if kind < 0.85:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABC0123456789_-.") for _ in range(rng.randint(1, 14)))
    if kind < 0.88:
        return str(rng.randint(0, 10 ** rng.randint(1, 9)))
    first, last = rng.choice(SCRIPTS)
    letters = (chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Cs")


def write_texts(folder):
    rng = random.Random(20260101)
    texts = list(ODD)
    while len(texts) < TEXTS:
        # Lengths spread evenly on a logarithmic scale, so that short texts are as well represented as long ones.
        count = round(math.exp(rng.uniform(0, math.log(MAX_WORDS))))
        joint = [" ", " ", " ", " ", " ", ", ", ". ", "\n", "\n\n", "\t"]
        texts.append("".join(word(rng) + rng.choice(joint) for _ in range(count)))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "texts.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)


def run_reference(folder, model):
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        sys.exit("sentence-transformers is missing: pip install sentence-transformers")
    texts = read(folder / "texts.jsonl")
    vectors = SentenceTransformer(str(model), device="cpu").encode(texts, batch_size=16)
    with open(folder / "reference.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(vector.tolist()) + "\n" for vector in vectors)


def compare(folder, minimum):
    texts, ours, theirs = (read(folder / name) for name in ("texts.jsonl", "vectors.jsonl", "reference.jsonl"))
    if not len(texts) == len(ours) == len(theirs):
        sys.exit(f"{len(texts)} texts, {len(ours)} vectors, {len(theirs)} reference vectors")
    cosines = [cosine(a, b) for a, b in zip(ours, theirs)]
    worst = min(range(len(cosines)), key=cosines.__getitem__)
    result = {"texts": len(texts), "minimum": cosines[worst], "mean": sum(cosines) / len(cosines),
              "worst_text": texts[worst][:80], "below_minimum": sum(c < minimum for c in cosines)}
    print(json.dumps(result))
    sys.exit(0 if cosines[worst] >= minimum else 1)


def cosine(a, b):
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["texts", "reference", "compare"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path, nargs="?")
    parser.add_argument("--minimum", type=float, default=0.9999)
    arguments = parser.parse_args()
    if arguments.step == "texts":
        write_texts(arguments.folder)
    elif arguments.step == "reference":
        if arguments.model is None:
            parser.error("reference needs the model's folder")
        run_reference(arguments.folder, arguments.model)
    else:
        compare(arguments.folder, arguments.minimum)


if __name__ == "__main__":
    main()
