"""The Ray Data pipeline: manifest -> units -> decode actors -> engine actors -> answered units."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, Datasource, ReadTask
from ray.data.block import BlockMetadata

from serve_app.batch.answering import AnsweredUnit
from serve_app.batch.manifest import Manifest
from serve_app.batch.options import Defaults
from serve_app.batch.stages import AnswerStage, DecodeStage, pack, unpack
from serve_app.batch.suspect_ledger import SuspectLedger
from serve_app.batch.tickets import Tickets
from serve_app.batch.units import UNIT_ROWS, make_units
from serve_app.settings import AppSettings

DECODER_UNITS = 2  # in a decode actor at a time, so that its pool never waits for the next one
ACTOR_START_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Actors:
    """How many actors there are, and the resources that each needs."""

    num_decoders: int
    decoder_cpus: float
    num_engines: int
    engine_cpus: float
    engine_gpus: float
    concurrency: int  # rows in one engine at a time

    @property
    def engine_units(self) -> int:
        """Units in an engine actor at a time: enough for `concurrency` rows, and one to follow up."""
        return -(-self.concurrency // UNIT_ROWS) + 1

    @property
    def max_units(self) -> int:
        """Units between manifest and driver: those in each actor and one that waits for it."""
        waiting_for_decoders = self.num_decoders * (DECODER_UNITS + 1)
        return waiting_for_decoders + self.num_engines * (self.engine_units + 1)


class UnitSource(Datasource):  # type: ignore[misc]
    """Reads the units that are not done yet on the driver's machine, while earlier ones are processed."""

    def __init__(
        self, manifest: Manifest, done: bytes, defaults: Defaults, settings: AppSettings
    ) -> None:
        """`done` has one byte for each row: 1 if the row is done."""
        super().__init__()
        self._manifest, self._done = manifest, done
        self._defaults, self._settings = defaults, settings
        self.tickets: Any = None  # the handle of a Tickets actor

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, **_: Any) -> list[ReadTask]:
        unknown = BlockMetadata(None, None, None, None)
        return [ReadTask(self._read, unknown)]

    def _read(self) -> Iterator[Any]:
        rows = (row for row in self._manifest.rows() if not self._done[row.number])
        for number, unit in enumerate(make_units(rows, self._defaults, self._settings)):
            ray.get(self.tickets.wait.remote(number))
            yield pyarrow.Table.from_pylist([pack(unit)])


def answered_units(
    source: UnitSource, settings: AppSettings, actors: Actors
) -> Iterator[AnsweredUnit]:
    """Yields units as they are answered, in any order. Needs a running Ray.

    Ray restarts an actor that dies and gives it its units again. Raises whatever ended the job.
    """
    _configure()
    driver = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    ledger = ray.remote(SuspectLedger).options(num_cpus=0).remote()
    tickets = ray.remote(Tickets).options(num_cpus=0).remote(actors.max_units)
    source.tickets = tickets
    data = ray.data.read_datasource(
        source, override_num_blocks=1, num_cpus=0, label_selector=driver
    )
    data = data.map(
        DecodeStage,
        fn_constructor_args=[settings],
        compute=_pool(actors.num_decoders, DECODER_UNITS),
        num_cpus=actors.decoder_cpus,
    )
    data = data.map(
        AnswerStage,
        fn_constructor_args=[settings, actors.concurrency, ledger],
        compute=_pool(actors.num_engines, actors.engine_units),
        num_cpus=actors.engine_cpus,
        num_gpus=actors.engine_gpus,
    )
    for unit in unpack(data.iter_rows()):
        tickets.answered.remote()
        yield unit


def _pool(size: int, num_units: int) -> ActorPoolStrategy:
    """A pool of actors. Each works on `num_units` units at a time, in threads, and one more waits for it."""
    return ActorPoolStrategy(
        size=size,
        max_concurrent_calls_per_actor=num_units,
        max_tasks_in_flight_per_actor=num_units + 1,
        enable_true_multi_threading=True,
    )


def _configure() -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # makes every unit a block, and so a task, of its own
    context.max_consecutive_actor_init_deaths = ACTOR_START_FAILURES
