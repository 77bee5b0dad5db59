"""aider edits a file through Holdfast and a scripted model."""

import os
import subprocess
import sys

from conftest import furnish, starting
from scripted import Scripted

EDIT = """greet.py
```python
<<<<<<< SEARCH
print("hello")
=======
print("hello, keeper")
>>>>>>> REPLACE
```
"""


def test_aider_edits_a_file(binary, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "greet.py").write_text('print("hello")\n')
    with Scripted(lambda _: {"content": EDIT}) as upstream, starting(binary, furnish(tmp_path / "data")) as (server, _):
        server.command("providers", "add", "scripted", "--url", upstream.url, "--model", "scripted")
        environment = os.environ | {
            "OPENAI_API_BASE": f"{server.url}/v1",
            "OPENAI_API_KEY": server.key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "aider", "--model", "openai/auto", "--yes-always", "--no-git"]
        command += ["--no-check-update", "--no-show-release-notes", "--analytics-disable", "--no-show-model-warnings"]
        command += ["--no-auto-lint", "--no-pretty", "--no-suggest-shell-commands", "--edit-format", "diff"]
        command += ["--map-tokens", "0", "--message", "Greet the keeper.", "greet.py"]
        told = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120)
        assert (work / "greet.py").read_text() == 'print("hello, keeper")\n', told.stdout + told.stderr
        assert upstream.asked, "it was not asked"
