"""Runs a batch from beginning to end: finds what is done, runs the rest on Ray, writes output and summary."""

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
    """Blocks until the output is written.

    Raises:
        InvalidRequestError: the input, the output or the parts beside it do not fit the job.
        CheckpointError: the model cannot be used.
        BatchFailedError: too many rows have errors, or a stage failed for good. Finished rows are kept.
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
    """Everything that the answers depend on. A refused --resume names the keys that differ."""
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
            f"--output {job.output}: expected a name that ends in {' or '.join(SUFFIXES)}"
        )
    if manifest.kind == "openai" and suffix != ".jsonl":
        raise InvalidRequestError(
            f"--output {job.output}: for OpenAI's batch input the output must be a .jsonl"
        )
    if job.output == job.input:
        raise InvalidRequestError(f"--output {job.output} is also the input")
    if not is_uri(job.output) and not Path(job.output).absolute().parent.is_dir():
        raise InvalidRequestError(f"--output {job.output}: its folder does not exist")


def _check_questions(defaults: Defaults, manifest: Manifest) -> None:
    """Refuses early what every row of this kind of input would fail for."""
    if manifest.kind == "clips" and not (defaults.question or defaults.task):
        raise InvalidRequestError(
            f"--input {manifest.path} holds only clips: give --question or --task"
        )
    if manifest.kind == "openai" and defaults != Defaults():
        raise InvalidRequestError(
            f"--input {manifest.path}: lines of OpenAI's batch input hold complete requests; "
            "--question, --task and the options of a request do not apply to them"
        )


def _place(output: str) -> tuple[Folder, str]:
    folder, _, name = output.rpartition("/")
    return Folder(folder or ("/" if output.startswith("/") else ".")), name


def _take_up(job: Job, folder: Folder, about: dict[str, Any]) -> Summary | None:
    """The summary if this job is finished already; otherwise None, and the folder is ready for its parts.

    Raises:
        InvalidRequestError: an output or parts exist, and --resume was not given or they are another job's.
    """
    begun = JOB in folder.names()
    has_output = _exists(job.output)
    if not job.resume and (begun or has_output):
        found = job.output if has_output else folder.path
        raise InvalidRequestError(
            f"{found} exists already; --resume continues that job, or choose another --output"
        )
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
        f"{name} is {about.get(name)!r} now and was {earlier.get(name)!r}"
        for name in {**about, **earlier}
        if about.get(name) != earlier.get(name)
    ]
    if differing:
        raise InvalidRequestError(
            f"--resume: {folder.path} belongs to another job: {'; '.join(differing)}"
        )
    if FINISHED not in folder.names():
        return None
    if not has_output:
        raise InvalidRequestError(
            f"--resume: the job is finished, but {job.output} no longer exists"
        )
    summary: Summary = json.loads(folder.read(FINISHED))
    return summary


def _exists(path: str) -> bool:
    from pyarrow import fs

    filesystem, inside = locate(path)
    return bool(filesystem.get_file_info(inside).type != fs.FileType.NotFound)


def _model_sha256(model: Path) -> str:
    """Hash of the model's files.

    Raises:
        CheckpointError: they do not match the manifest. Checked before anything starts: an engine actor would
            report it only as a traceback.
    """
    problems = compare_with_manifest(model, hash_files(model))
    if problems:
        raise CheckpointError("; ".join(problems))
    return str((read_manifest(model) or {})["sha256"])


def _answer(job: Job, manifest: Manifest, parts: PartWriter, progress: Progress) -> None:
    """Runs the rows that are not done. Whatever happens, answered rows end up in parts."""
    # Imported here because it needs Ray, which the resume of a finished job does without.
    from serve_app.batch.cluster import answering_units

    with ExitStack() as stack:
        stack.callback(parts.flush)
        for unit in stack.enter_context(answering_units(job, manifest, bytes(parts.done))):
            parts.add(unit.records)
            progress.update(parts.num_done, parts.errors, unit.busy)
            _check_errors(job.max_error_rate, parts)
    missing = len(parts.done) - parts.num_done
    if missing:
        raise BatchFailedError(f"{missing} rows did not come back; --resume runs them again")


def _check_errors(max_error_rate: float, parts: PartWriter) -> None:
    num_errors = sum(parts.errors.values())
    if parts.num_done >= MIN_ROWS_FOR_RATE and num_errors > max_error_rate * parts.num_done:
        raise BatchFailedError(
            f"{num_errors} of {parts.num_done} rows have errors ({dict(parts.errors)}); "
            f"--max-error-rate is {max_error_rate:g}"
        )


@contextmanager
def _ticking(parts: PartWriter, progress: Progress) -> Iterator[None]:
    """Flushes old records and refreshes the progress line every second, also while no unit arrives."""
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
