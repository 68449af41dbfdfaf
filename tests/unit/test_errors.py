"""The error tree: codes are unique, errors survive pickling, a code finds its class again."""

import pickle

import pytest

from serve_app import errors
from serve_app.errors import ServeAppError, error_by_code


def tree(kind: type[ServeAppError] = ServeAppError) -> list[type[ServeAppError]]:
    return [kind, *(sub for child in kind.__subclasses__() for sub in tree(child))]


# ClipError only groups its subclasses and carries its parent's code.
RAISED = [kind for kind in tree() if kind is not errors.ClipError]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in RAISED]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: str(kind.code))
def test_an_error_survives_pickling(kind: type[ServeAppError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("clip lasts 61.0 s; the limit is 60.0 s")))
    assert type(copy) is kind
    assert copy.message == "clip lasts 61.0 s; the limit is 60.0 s"


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: str(kind.code))
def test_the_module_docstring_documents_status_and_code(kind: type[ServeAppError]) -> None:
    if kind is errors.RequestError:
        pytest.skip("a group, never raised itself")
    line = next(line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line)
    assert f"{kind.status} {kind.code}" in line


def test_a_code_finds_its_class_and_an_unknown_one_the_base() -> None:
    assert error_by_code("clip_too_large") is errors.ClipTooLargeError
    assert error_by_code("nonsense") is ServeAppError
    assert error_by_code(None) is ServeAppError
