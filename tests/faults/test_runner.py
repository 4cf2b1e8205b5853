"""A stage that fails says how, keeps its notebook, and leaves nothing that could be taken for a result."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.conftest import LONGEST

LIBRARY = Path(__file__).parents[2] / "workflow"
WRITE_MANIFEST = "from pileline import manifest\nmanifest.write(output, 'tiny', {'size': size})"


def write_notebook(folder: Path, *cells: str) -> Path:
    """A notebook `01_tiny` with the parameters `size` and `output`, and these code cells."""
    parameters = nbformat.v4.new_code_cell(
        "size: int = 1  # how much\noutput: str = 'results/tiny'  # where", metadata={"tags": ["parameters"]}
    )
    notebook = nbformat.v4.new_notebook(
        cells=[parameters, *map(nbformat.v4.new_code_cell, cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = folder / "01_tiny.ipynb"
    nbformat.write(notebook, path)
    return path


def command(folder: Path, parameters: dict[str, object] | None = None) -> list[str]:
    given = {"size": 3, "output": "results/tiny"} if parameters is None else parameters
    return [
        *(sys.executable, "-m", "pileline.stage", "--notebook", str(folder / "01_tiny.ipynb"), "--threads", "1"),
        *("--parameters", json.dumps(given), "--log", "results/logs/tiny/01_tiny.ipynb"),
    ]


def run(folder: Path, parameters: dict[str, object] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    return subprocess.run(
        command(folder, parameters), cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST
    )


def assert_failed_cleanly(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode != 0
    assert not (folder / "results/tiny").exists()
    assert not list((folder / "results").glob(".*partial")), "the hidden folder of the failed run is still there"
    assert (folder / "results/logs/tiny/01_tiny.ipynb").exists()
    assert "failed:" in (folder / "results/logs/tiny/01_tiny.log").read_text()


def test_a_stage_that_ends_well_leaves_manifest_and_record(tmp_path: Path) -> None:
    write_notebook(tmp_path, "print('half way')", WRITE_MANIFEST)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results/tiny/manifest.json").read_text())["metrics"] == {"size": 3}
    record = json.loads((tmp_path / "results/tiny/run.json").read_text())
    assert record["seconds"] > 0
    assert record["peak_memory_bytes"] > 2**20
    assert "half way" in (tmp_path / "results/logs/tiny/01_tiny.log").read_text()
    assert "[tiny] half way" in done.stderr


def test_word_of_a_cells_end_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """As from a machine that is full of work: what the kernel publishes waits for seconds, its answer does not."""
    blocked = "import sys, time\nsys.stdout.flush_timeout = sys.stderr.flush_timeout = 0\n"
    blocked += "get_ipython().kernel.iopub_thread.schedule(lambda: time.sleep(5))"
    write_notebook(tmp_path, blocked, WRITE_MANIFEST)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_raising_cell_is_named_with_its_error(tmp_path: Path) -> None:
    write_notebook(tmp_path, "open(f'{output}/half.bin', 'wb').write(b'x')", "wrong = 1 / 0", WRITE_MANIFEST)
    done = run(tmp_path)
    assert_failed_cleanly(tmp_path, done)
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "wrong = 1 / 0" in done.stderr
    executed = nbformat.read(tmp_path / "results/logs/tiny/01_tiny.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", []))


def test_a_killed_kernel_is_reported_as_dead_and_not_as_done(tmp_path: Path) -> None:
    write_notebook(tmp_path, "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", WRITE_MANIFEST)
    done = run(tmp_path)
    assert_failed_cleanly(tmp_path, done)
    assert "kernel died" in done.stderr
    assert "os.kill(os.getpid()" in done.stderr, "the cell that ran is named"
    assert "memory" in done.stderr
    executed = nbformat.read(tmp_path / "results/logs/tiny/01_tiny.ipynb", as_version=4)
    assert [cell.metadata.papermill.status for cell in executed.cells][-2] == "failed"


def test_a_kernel_out_of_memory_is_reported(tmp_path: Path) -> None:
    limit = "import psutil, resource; most = psutil.Process().memory_info().vms + 2**31"  # what it has, and 2 GiB
    limit += "\nresource.setrlimit(resource.RLIMIT_AS, (most, most))"
    write_notebook(tmp_path, limit, "big = bytearray(2**33)", WRITE_MANIFEST)
    done = run(tmp_path)
    assert_failed_cleanly(tmp_path, done)
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_leaving_early_without_an_error_is_a_failure(tmp_path: Path, ending: str) -> None:
    write_notebook(tmp_path, ending)
    done = run(tmp_path)
    assert_failed_cleanly(tmp_path, done)
    assert "without writing manifest.json" in done.stderr or "kernel died" in done.stderr or "SystemExit" in done.stderr


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"size": 1, "sise": 2, "output": "results/tiny"}, "no parameter 'sise'"),
        ({"output": "results/tiny"}, "parameter 'size' is given no value"),
    ],
)
def test_unknown_and_missing_parameters_are_refused(tmp_path: Path, given: dict[str, object], complaint: str) -> None:
    write_notebook(tmp_path, WRITE_MANIFEST)
    done = run(tmp_path, given)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_string_with_quotes_and_equals_signs_reaches_the_notebook_unchanged(tmp_path: Path) -> None:
    awkward = "a='b' \"c\"=\\n{d}\n=é▁"
    write_notebook(tmp_path, WRITE_MANIFEST)
    done = run(tmp_path, {"size": awkward, "output": "results/tiny"})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results/tiny/manifest.json").read_bytes())["metrics"]["size"] == awkward


def test_a_terminated_stage_ends_its_kernel_and_tidies_up(tmp_path: Path) -> None:
    cell = f"import os, time\nprint('kernel', os.getpid())\ntime.sleep({LONGEST})"
    write_notebook(tmp_path, cell, WRITE_MANIFEST)
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    process = subprocess.Popen(command(tmp_path), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = next(said for line in process.stderr if (said := re.fullmatch(r"\[tiny\] kernel (\d+)\n", line)))
    kernel = psutil.Process(int(said[1]))  # it is in its cell
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert "SIGTERM" in errors
    assert not (tmp_path / "results/tiny").exists()
    assert not list((tmp_path / "results").glob(".*partial"))
    assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE


def test_a_later_run_replaces_what_stood_there(tmp_path: Path) -> None:
    write_notebook(tmp_path, WRITE_MANIFEST)
    (tmp_path / "results/tiny").mkdir(parents=True)
    (tmp_path / "results/tiny/stale.bin").write_bytes(b"old")
    assert run(tmp_path).returncode == 0
    assert not (tmp_path / "results/tiny/stale.bin").exists()


def test_control_characters_of_untrusted_text_reach_neither_terminal_nor_log(tmp_path: Path) -> None:
    write_notebook(tmp_path, r"print('\x1b]0;title\x07 red: \x1b[31m \x9b')", WRITE_MANIFEST)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, (tmp_path / "results/logs/tiny/01_tiny.log").read_text()):
        assert r"\x1b]0;title\x07 red: \x1b[31m \x9b" in text
        assert "\x1b" not in text


def test_a_long_temporary_folder_and_settings_of_the_users_own_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    startup = tmp_path / "home/.ipython/profile_default/startup"
    kernel = tmp_path / "home/.local/share/jupyter/kernels/python3"
    for folder in (long, startup, kernel):
        folder.mkdir(parents=True)
    (startup / "00.py").write_text("raise RuntimeError('a user's own start-up file')")
    (kernel / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PATH", str(kernel.parents[1]))
    write_notebook(tmp_path, WRITE_MANIFEST)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr


def test_settings_too_long_for_an_argument_come_through_a_pipe(tmp_path: Path) -> None:
    write_notebook(tmp_path, "size = len(size)", WRITE_MANIFEST)
    given = command(tmp_path)
    given[given.index("--parameters") + 1] = "-"
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    text = json.dumps({"size": "x" * 300_000, "output": "results/tiny"})
    done = subprocess.run(
        given, cwd=tmp_path, env=environment, input=text, capture_output=True, text=True, timeout=LONGEST
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results/tiny/manifest.json").read_text())["metrics"] == {"size": 300_000}
