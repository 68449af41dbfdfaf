"""The graph of Ray Data: manifest -> units -> decode actors -> engine actors -> answered units."""

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

DECODER_UNITS = 2  # that a decode actor works at, so that its pool never waits for the next one
ACTOR_START_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Actors:
    """How many, and what each asks of the cluster."""

    num_decoders: int
    decoder_cpus: float
    num_engines: int
    engine_cpus: float
    engine_gpus: float
    concurrency: int  # rows in one engine at a time

    @property
    def engine_units(self) -> int:
        """That an engine actor works at: one more than hold its rows, for when a unit nears its end."""
        return -(-self.concurrency // UNIT_ROWS) + 1

    @property
    def max_units(self) -> int:
        """Between manifest and driver: in each actor, and one that waits for it."""
        waiting_for_decoders = self.num_decoders * (DECODER_UNITS + 1)
        return waiting_for_decoders + self.num_engines * (self.engine_units + 1)


class UnitSource(Datasource):  # type: ignore[misc]
    """The units that are not done yet, read on the driver's machine while the others work."""

    def __init__(
        self, manifest: Manifest, done: bytes, defaults: Defaults, settings: AppSettings
    ) -> None:
        """`done` has a byte for each row, 1 where it is."""
        super().__init__()
        self._manifest, self._done = manifest, done
        self._defaults, self._settings = defaults, settings
        self.tickets: Any = None  # a Tickets actor

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
    """As they are answered, in any order. Needs a running Ray.

    An actor that dies is started again and given its units again. Raises what ended the job.
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
    """Each actor works at `num_units` at a time, in threads, and one more waits for it."""
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
    context.target_max_block_size = 1  # every unit is a block, and so a task, of its own
    context.max_consecutive_actor_init_deaths = ACTOR_START_FAILURES
