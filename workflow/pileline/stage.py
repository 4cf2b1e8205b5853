"""The runner: executes one stage's notebook with papermill, and says truthfully how it ended.

    python -m pileline.stage --notebook notebooks/02_clean.ipynb --parameters '{"source": ...}' \\
        --threads 2 --log results/logs/clean/slimpajama/wikipedia-en/02_clean.ipynb

It is the only place that calls papermill. The notebook writes into a hidden folder beside its final one;
only when it has ended well, manifest included, is the folder moved to its place, together with `run.json`,
the record of this run: times, memory, versions. So no partial output is ever taken as done. The executed
notebook and a text log stand under results/logs/ from the first cell on, and stay there on failure.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from pileline import fingerprint, manifest
from pileline import notebook as notebooks

RUN_RECORD = "run.json"
FONTS = ".snakemake/matplotlib"  # its list of this machine's fonts, which takes seconds to make, for all stages
KERNEL_START_SECONDS = 180  # a machine that is full of work starts a kernel slowly
OUTPUT_SECONDS = 180  # and may be late with what a cell prints: after nbclient's 4 seconds the stage failed


class StageError(RuntimeError):
    """A stage that did not end well; the message is what the user reads."""


# ------------------------------------------------------------------------------------------- folders
@contextlib.contextmanager
def _staged(final: Path) -> Iterator[Path]:
    """An empty hidden folder beside `final`, moved to its place when the block ends well, else removed."""
    staging = final.parent / f".{final.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# ------------------------------------------------------------------------------------------- the log
# Everything below the blank but tab and newline, delete, and the C1 range: what can move a terminal's cursor.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class _Log:
    """A text stream that writes to the log file, and to the terminal with the stage's name before each line.

    Samples of text are untrusted: control characters, which can rewrite what a terminal shows, are spelled out.
    """

    def __init__(self, file: TextIO, name: str) -> None:
        self._file, self._name, self._rest = file, name, ""

    def write(self, text: str) -> int:
        text = text.translate(_CONTROLS)
        self._file.write(text)
        self._file.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                print(f"[{self._name}] {line}", file=sys.stderr, flush=True)
        return len(text)

    def flush(self) -> None:
        self._file.flush()


# -------------------------------------------------------------------------------------- the execution
def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the kernel's sockets; their path may have 107 characters, so a long TMPDIR is passed over."""
    place = None if len(tempfile.gettempdir()) < 70 else "/tmp"
    return tempfile.TemporaryDirectory(prefix="pileline-", dir=place)


def _environment(threads: int, folder: str) -> None:
    """What the kernel inherits: its threads, private Jupyter folders, and no settings of the user's own."""
    os.environ.pop("JUPYTER_PATH", None)  # a `python3` kernel found there would win over this environment's
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ |= {
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "JUPYTER_RUNTIME_DIR": folder,  # connection files of kernels that start at once must not meet
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one in the user's home
        "IPYTHONDIR": folder,
        "MPLCONFIGDIR": str(Path(FONTS).absolute()),
        "MPLBACKEND": "agg",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _execute(notebook: Path, executed: Path, parameters: dict[str, Any], log: _Log, private: str) -> None:
    """Run the notebook; raise `StageError` for a failing cell, a dead kernel and a kernel that will not start."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from nbformat import from_dict
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config
    from zmq import ZMQError

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that it cannot parse; we do
    deaths: list[str] = []

    class Engine(NBClientEngine):  # type: ignore[misc]
        """papermill's engine over sockets in a private folder; kernels that start together race for TCP ports."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            options["config"] = Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/kernel"}})
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **options)
            except DeadKernelError as error:
                index = max(i for i, cell in enumerate(nb_man.nb.cells) if cell.metadata.papermill.start_time)
                cell = nb_man.nb.cells[index]
                deaths.append(_first_line(cell.source))
                # papermill would mark the cell as completed; the executed notebook should show what happened.
                death = {"output_type": "error", "ename": "DeadKernelError", "evalue": str(error), "traceback": []}
                cell.outputs.append(from_dict(death))  # type: ignore[no-untyped-call]
                nb_man.cell_exception(cell, cell_index=index, exception=error)
                raise

    papermill_engines.register("pileline", Engine)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=parameters,
            engine_name="pileline",
            kernel_name="python3",
            progress_bar=False,
            stdout_file=log,
            stderr_file=log,
            start_timeout=KERNEL_START_SECONDS,
            iopub_timeout=OUTPUT_SECONDS,
            autosave_cell_every=5,
        )
    except papermill.PapermillExecutionError as error:
        said = f"{error.ename}: {error.evalue}".removesuffix(": ")
        if error.ename == "CellExecutionError" and not error.evalue:  # IPython fell over the traceback, as of templates
            said = "an exception that IPython could not show; the log has what is known of it"
        raise StageError(
            f"{notebook.name}: the cell that begins with `{_first_line(error.source)}` raised\n  {said}"
        ) from None
    except DeadKernelError:
        where = f", in the cell that begins with `{deaths[0]}`" if deaths else ""
        raise StageError(f"{notebook.name}: {_how_the_kernel_died()}{where}") from None
    except (RuntimeError, ZMQError, NoSuchKernel) as error:  # nbclient's and Jupyter's words for no answer
        raise StageError(f"{notebook.name}: the kernel did not start: {error}") from None


def _first_line(source: str) -> str:
    return next((line for line in source.splitlines() if line.strip()), "")


def _how_the_kernel_died() -> str:
    peak = _peak_memory() / 2**20
    return (
        f"the kernel died without a Python error. Its memory had peaked at {peak:,.0f} MiB; the usual cause is "
        "the system ending it for want of memory (SIGKILL), else a crash in compiled code or somebody's `kill`. "
        "Free memory, or lower the stage's sizes in config.yaml, and run again"
    )


def _peak_memory() -> int:
    """Bytes of the largest process among the children that have ended: the kernel."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


# ------------------------------------------------------------------------------------------ the record
def _packages(code: list[str]) -> dict[str, str]:
    """The installed versions of the third-party packages that the stage imports."""
    names = [entry.split("==")[0] for entry in code if "==" in entry] + ["snakemake", "papermill", "ipykernel"]
    found = {}
    for name in sorted(set(names)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _git() -> dict[str, Any] | None:
    """The commit that ran, and whether tracked files differed from it; None outside a git checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changed.stdout.strip())}


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _record(name: str, notebook: Path, executed: Path, started: float, seconds: float, threads: int) -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "stage": notebook.stem.split("_", 1)[-1],
        "name": name,
        "notebook": notebook.as_posix(),
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_bytes": _peak_memory(),
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "packages": _packages(fingerprint.notebook_code(notebook)),
        "git": _git(),
        "log": executed.as_posix(),
    }


# --------------------------------------------------------------------------------------------- the run
def run(notebook: Path, parameters: dict[str, Any], threads: int, executed: Path) -> None:
    """Run one stage into the folder that its parameter `output` names.

    `executed` is where the executed notebook goes; a text log of the same name stands beside it. The folder
    of a parameter `scratch` outlives a run that was cut off, so that the next one can go on, and is removed
    when the stage has ended well. Raises `StageError` or `NotebookError`.
    """
    parsed = notebooks.read(notebook)
    if "threads" in parsed.parameters and "threads" not in parameters:
        parameters = {**parameters, "threads": threads}
    problems = notebooks.parameter_problems(parsed, set(parameters))
    if problems:
        raise StageError("\n".join(problems))
    final = Path(parameters["output"])
    name = final.relative_to("results").as_posix() if final.is_relative_to("results") else final.as_posix()
    scratch = Path(parameters["scratch"]) if "scratch" in parameters else None
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
    executed.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with (
        executed.with_suffix(".log").open("w", encoding="utf-8") as file,
        _private_folder() as private,
        _staged(final) as staging,
    ):
        log = _Log(file, name)
        _environment(threads, private)
        try:
            _execute(notebook, executed, {**parameters, "output": str(staging)}, log, private)
            if not (staging / manifest.NAME).exists():
                raise StageError(
                    f"{notebook.name}: ended without writing {manifest.NAME}, so it did not finish its work "
                    "(a `sys.exit()` in a cell does that, and so does a missing last cell)"
                )
        except StageError as error:
            log.write(f"failed: {error}\nthe notebook up to there: {executed}\n")
            raise
        seconds = time.time() - started
        record = _record(name, notebook, executed, started, seconds, threads)
        (staging / RUN_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        log.write(f"done in {seconds:.1f} s, peak memory {record['peak_memory_bytes'] / 2**20:,.0f} MiB\n")
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def _stop(number: int, _: Any) -> None:
    """Turn SIGTERM into an exception, so that the kernel is ended and the folders are tidied."""
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pileline.stage", description="Run one stage's notebook.")
    parser.add_argument("--notebook", type=Path, required=True, help="the notebook to run")
    parser.add_argument("--parameters", required=True, help="its parameters, as a JSON object; - reads them from stdin")
    parser.add_argument("--threads", type=int, required=True, help="how many threads it may use")
    parser.add_argument("--log", type=Path, required=True, help="where the executed notebook goes")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        parameters = json.loads(sys.stdin.read() if options.parameters == "-" else options.parameters)
        run(options.notebook, parameters, options.threads, options.log)
    except (StageError, notebooks.NotebookError, OSError) as error:
        print(f"\nStage failed. {error}", file=sys.stderr)
        print(f"The executed notebook: {options.log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"\nStage stopped. {error}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
