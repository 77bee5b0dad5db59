"""The documents' examples, run as they stand: commands in a shell against a fresh server, JSON and settings read.

A document's blocks run one after the other in one shell, so that a key made in one is there in the next. Every command
has to succeed; lines of output that a document shows have to come, where `…` stands for anything. What cannot be run
says so where readers see it, with the reason: `# not tested: …`, as the first line of a block or behind a command.
"""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from conftest import FIXTURES, furnish, running

ROOT = Path(__file__).resolve().parents[2]
NOT_TESTED = re.compile(r"# not tested: \S.{5,}")
SHELL = {"console", "bash", "sh"}
READ = {"json": json.loads, "toml": tomllib.loads}
# What shows something and is no example: diagrams, programs of other languages that are run elsewhere, or their settings.
SHOWN = {"mermaid", "text"}
# Where the documents say the server listens.
ADDRESS = "127.0.0.1:8088"
MARK = "end-of-command"


def documents():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split() if not path.startswith(("tests/fixtures/", "fuzz/"))]


def blocks(path):
    """Language, first line's number and lines of each fenced block."""
    language, begin, lines = None, 0, []
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            if language is None:
                language, begin, lines = line.strip()[3:].strip(), number + 1, []
            else:
                yield language, begin, lines
                language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{path}: a block does not end"


def commands(language, lines):
    """Commands with the output that is shown below them. In `console` blocks they begin with `$ `."""
    found, continued = [], False
    for line in lines:
        if continued:
            found[-1][0] += "\n" + line
        elif language == "console" and not line.startswith("$ "):
            if line.strip() and not line.startswith("#"):
                assert found, f"output of no command: {line}"
                found[-1][1].append(line)
            continue
        elif not line.strip() or line.lstrip().startswith("#"):
            continue
        else:
            found.append([line.removeprefix("$ ") if language == "console" else line, []])
        continued = line.rstrip().endswith("\\")
    return found


def is_exempt(lines):
    return bool(lines) and NOT_TESTED.search(lines[0]) and lines[0].lstrip().startswith("#")


class Shell:
    """A shell that stays, with `holdfast` in its path and a home of its own."""

    def __init__(self, environment, folder):
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command):
        # The input of a command is none, or it would read the commands that follow.
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %d\\n' {MARK} $?\n")
        self.process.stdin.flush()
        output = []
        for line in self.process.stdout:
            if line.startswith(MARK):
                return int(line.split()[1]), "".join(output).rstrip("\n")
            output.append(line)
        pytest.fail(f"the shell ended at {command}: {''.join(output)}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture(scope="module")
def house(binary, tmp_path_factory):
    """A server where the documents say one is: in the home's data directory."""
    home = tmp_path_factory.mktemp("home")
    for folder in ["notes", "src/project"]:
        (home / folder).mkdir(parents=True)
        (home / folder / "README.md").write_text("# Pins\n\nA flake lock pins nixpkgs. See services.nginx.enable.\n")
    programs = home / "bin"
    programs.mkdir()
    (programs / "holdfast").symlink_to(binary)
    data_dir = furnish(home / ".local/share/holdfast")
    with running(binary, data_dir, FIXTURES / "docs") as server:
        environment = {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "HOLDFAST_SERVER__LISTEN": "127.0.0.1:0",
        }
        yield server, environment, home


def test_there_are_documents_with_examples():
    languages = [language for path in documents() for language, _, _ in blocks(path)]
    assert len([language for language in languages if language in SHELL]) >= 8, languages
    assert {"console", "json"} <= set(languages)


@pytest.mark.parametrize("path", documents())
def test_every_block_says_what_it_is(path):
    for language, number, lines in blocks(path):
        known = language in SHELL or language in READ or language in SHOWN
        assert known or is_exempt(lines), f"{path}:{number}: {language or 'no language'} is neither run nor marked"
        if language in READ:
            READ[language]("\n".join(lines))


@pytest.mark.parametrize("path", [path for path in documents() if any(b[0] in SHELL for b in blocks(path))])
def test_the_commands_of_a_document_work(path, house):
    server, environment, home = house
    shell = Shell(environment, home)
    try:
        for language, number, lines in blocks(path):
            if language not in SHELL or is_exempt(lines):
                continue
            for command, expected in commands(language, lines):
                if NOT_TESTED.search(command):
                    continue
                status, output = shell.run(command.replace(ADDRESS, server.url.removeprefix("http://")))
                where = f"{path}:{number}: {command}\n{output}"
                assert status == 0, f"{status}: {where}"
                for line in expected:
                    pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
                    assert re.search(pattern, output), f"not shown: {line}\n{where}"
    finally:
        shell.close()


def test_a_command_that_fails_or_says_something_else_is_noticed(house):
    _, environment, home = house
    shell = Shell(environment, home)
    assert shell.run("holdfast no-such-command")[0] == 2
    assert shell.run("export A=$(echo b)") == (0, "")
    assert shell.run('echo "$A" \\\n  c') == (0, "b c")
    assert commands("console", ["$ a \\", "    b", "out", "", "$ c"]) == [["a \\\n    b", ["out"]], ["c", []]]
    assert not is_exempt(["# not tested:"]) and is_exempt(["# not tested: it takes minutes"])
    shell.close()
