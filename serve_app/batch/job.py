"""A batch from beginning to end: what is done already, the rest on Ray, the output, the summary."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from serve_app.batch.manifest import Manifest, Overview, open_manifest, survey
from serve_app.batch.options import Defaults, Job
from serve_app.batch.output import SUFFIXES, write_output
from serve_app.batch.parts import PART_S, PartWriter, merged_lines, remove_parts
from serve_app.batch.progress import Progress
from serve_app.batch.storage import Folder, is_uri, locate
from serve_app.checkpoint import compare_with_manifest, hash_files, read_manifest
from serve_app.errors import BatchFailedError, CheckpointError, InvalidRequestError

JOB, FINISHED, FOLDER = "job.json", "finished.json", ".parts"
MIN_ROWS_FOR_RATE = 100  # before --max-error-rate may stop a job
TICK_S = 1.0

Summary = dict[str, Any]


def run_job(job: Job) -> Summary:
    """Blocks until the output is there.

    Raises:
        InvalidRequestError: the input, the output or what lies beside it does not fit.
        CheckpointError: the model cannot be used.
        BatchFailedError: too many errors, or what runs the rows failed for good. Done rows are kept.
    """
    manifest = open_manifest(job.input)
    _check_output(job, manifest)
    _check_questions(job.defaults, manifest)
    place, name = _place(job.output)
    folder = Folder(f"{job.output}{FOLDER}")
    about = describe(job, manifest, overview := survey(manifest))
    if (summary := _take_up(job, folder, about)) is not None:
        return summary
    parts = PartWriter(folder, overview.num_rows)
    progress = Progress(overview.num_rows, parts.num_done)
    summary = {"num_rows": overview.num_rows, "num_resumed": parts.num_done}
    if parts.num_done < overview.num_rows:
        with _ticking(parts, progress):
            _answer(job, manifest, parts, progress)
    write_output(place, name, merged_lines(folder, parts.parts))
    summary |= _figures(parts, progress) | {"output": job.output, "job": about}
    folder.write(FINISHED, json.dumps(summary, indent=1).encode())
    remove_parts(folder)
    return summary


def describe(job: Job, manifest: Manifest, overview: Overview) -> dict[str, Any]:
    """All that the answers depend on. Flat: a resumed job is told which of these differs."""
    settings, defaults = job.settings, job.defaults
    return {
        "format": [manifest.kind, PurePosixPath(job.output).suffix],
        "num_rows": overview.num_rows,
        "manifest_sha256": overview.sha256,
        "model_sha256": _model_sha256(settings.model),
        "dtype": settings.engine.dtype,
        "question": defaults.question,
        "task": defaults.task,
        "labels": None if defaults.labels is None else list(defaults.labels),
        "features": defaults.features,
        "options": dict(sorted(defaults.options.items())),
        "parity": settings.parity,
        "layout": settings.layout,
        "tokenization": settings.tokenization,
        "sampling": settings.sampling.model_dump(),
    }


def _check_output(job: Job, manifest: Manifest) -> None:
    suffix = PurePosixPath(job.output).suffix
    if suffix not in SUFFIXES:
        raise InvalidRequestError(
            f"--output {job.output}: expected a name in {', '.join(SUFFIXES)}"
        )
    if manifest.kind == "openai" and suffix != ".jsonl":
        raise InvalidRequestError(
            f"--output {job.output}: OpenAI's batch input has an output in .jsonl"
        )
    if job.output == job.input:
        raise InvalidRequestError(f"--output {job.output} is the input")
    if not is_uri(job.output) and not Path(job.output).absolute().parent.is_dir():
        raise InvalidRequestError(f"--output {job.output}: its folder does not exist")


def _check_questions(defaults: Defaults, manifest: Manifest) -> None:
    """What every row of this kind of input would fail for."""
    if manifest.kind == "clips" and not (defaults.question or defaults.task):
        raise InvalidRequestError(
            f"--input {manifest.path} is clips alone: give --question or --task"
        )
    if manifest.kind == "openai" and defaults != Defaults():
        raise InvalidRequestError(
            f"--input {manifest.path}: the lines of OpenAI's batch input say all about their requests; "
            "--question, --task and the options of a request are for other inputs"
        )


def _place(output: str) -> tuple[Folder, str]:
    folder, _, name = output.rpartition("/")
    return Folder(folder or ("/" if output.startswith("/") else ".")), name


def _take_up(job: Job, folder: Folder, about: dict[str, Any]) -> Summary | None:
    """The summary of a job that is finished already; else the folder is ready for parts of this one.

    Raises:
        InvalidRequestError: there is something, and it is not to be resumed or another job's.
    """
    begun = JOB in folder.names()
    has_output = _exists(job.output)
    if not job.resume and (begun or has_output):
        found = job.output if has_output else folder.path
        raise InvalidRequestError(f"{found} is there already; --resume goes on, or choose another")
    if not begun:
        if has_output:
            raise InvalidRequestError(
                f"--resume: {job.output} has no {folder.path}/{JOB} beside it"
            )
        folder.create()
        folder.write(JOB, json.dumps(about, indent=1).encode())
        return None
    earlier = json.loads(folder.read(JOB))
    differing = [
        f"{name} is {about.get(name)!r}, there {earlier.get(name)!r}"
        for name in {**about, **earlier}
        if about.get(name) != earlier.get(name)
    ]
    if differing:
        raise InvalidRequestError(
            f"--resume: {folder.path} is another job's: {'; '.join(differing)}"
        )
    if FINISHED not in folder.names():
        return None
    if not has_output:
        raise InvalidRequestError(f"--resume: {job.output} was finished and is gone since")
    summary: Summary = json.loads(folder.read(FINISHED))
    return summary


def _exists(path: str) -> bool:
    from pyarrow import fs

    filesystem, inside = locate(path)
    return bool(filesystem.get_file_info(inside).type != fs.FileType.NotFound)


def _model_sha256(model: Path) -> str:
    """Raises CheckpointError: before anything is started, an engine actor would tell it with a traceback."""
    problems = compare_with_manifest(model, hash_files(model))
    if problems:
        raise CheckpointError("; ".join(problems))
    return str((read_manifest(model) or {})["sha256"])


def _answer(job: Job, manifest: Manifest, parts: PartWriter, progress: Progress) -> None:
    """The rows that are not done. What was answered is in parts, whatever happens."""
    # Only here: a finished job is resumed without Ray.
    from serve_app.batch.cluster import answering_units

    with ExitStack() as stack:
        stack.callback(parts.flush)
        for unit in stack.enter_context(answering_units(job, manifest, bytes(parts.done))):
            parts.add(unit.records)
            progress.update(parts.num_done, parts.errors, unit.busy)
            _check_errors(job.max_error_rate, parts)
    missing = len(parts.done) - parts.num_done
    if missing:
        raise BatchFailedError(f"{missing} rows did not come back; --resume asks them again")


def _check_errors(max_error_rate: float, parts: PartWriter) -> None:
    num_errors = sum(parts.errors.values())
    if parts.num_done >= MIN_ROWS_FOR_RATE and num_errors > max_error_rate * parts.num_done:
        raise BatchFailedError(
            f"{num_errors} of {parts.num_done} rows have errors ({dict(parts.errors)}); "
            f"--max-error-rate is {max_error_rate:g}"
        )


@contextmanager
def _ticking(parts: PartWriter, progress: Progress) -> Iterator[None]:
    """Old records become durable and the line is fresh also while no unit comes."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(TICK_S):
            parts.flush(PART_S)
            progress.show()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        progress.close()


def _figures(parts: PartWriter, progress: Progress) -> dict[str, Any]:
    return {
        "num_errors": sum(parts.errors.values()),
        "errors": dict(parts.errors),
        "num_output_tokens": parts.num_output_tokens,
        "elapsed_s": progress.elapsed_s,
        "start_s": progress.start_s,
        "rows_per_s": progress.rows_per_s,
        "busy_shares": progress.busy_shares(),
    }
