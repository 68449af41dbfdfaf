"""The variables we set for vLLM."""

import os

import pytest

from serve_app.engine.args import prepare_vllm_environment


def test_vllm_knows_every_variable_that_we_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.envs import environment_variables

    monkeypatch.setattr(os, "environ", {})
    prepare_vllm_environment()
    assert os.environ
    assert os.environ.keys() <= environment_variables.keys()
