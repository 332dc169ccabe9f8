"""Files are written whole or not at all."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.core.files import replacing, write_json, write_text


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as draft:
        draft.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_text(path, "old")
    with replacing(path, durable=True) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_content_that_is_no_json_does_not_touch_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "plan.json"
    write_json(path, {"rows": 3})
    with pytest.raises(TypeError):
        write_json(path, {"rows": object()})
    assert json.loads(path.read_text()) == {"rows": 3}


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    texts = [letter * 200_000 for letter in "abcd"]
    writers = [threading.Thread(target=lambda text=text: [write_text(path, text) for _ in range(20)]) for text in texts]
    for writer in writers:
        writer.start()
    seen = {path.read_text() for _ in range(200) if path.exists()}
    for writer in writers:
        writer.join()
    assert seen and seen <= set(texts)
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_text(path, "old")
    kill = (
        "import os, signal, sys; from pathlib import Path; from tools.core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", kill, str(path)], cwd=Path(__file__).parents[2], env={**os.environ})
    assert done.returncode == -9
    assert path.read_text() == "old"
