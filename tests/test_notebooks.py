"""The notebooks run from the first cell to the last, in a copy of the project."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MODEL", raising=False)
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=500, resources={"metadata": {"path": str(tmp_path / "notebooks")}}).execute()
    printed = "".join(
        output.get("text", "") for cell in content.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "promoted - " in printed
    assert "SIMULATED" in printed
    assert (tmp_path / ".mlops").is_dir()
    shown = [output.data for cell in content.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in shown) == 3, "drift, trials and canary"
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert any("<iframe" in page for page in pages), "the report"
    assert any("predicted" in page for page in pages), "the champion answers"
