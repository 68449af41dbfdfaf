"""One Ray cluster with a job server, shared by the tests that run whole batches."""

from collections.abc import Iterator

import pytest
from heads import Head, running_head


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("head") / "head.log") as running:
        yield running
