"""A limiter on each kind of store."""

import pytest

from .house import House


@pytest.fixture(params=[False, True], ids=["in process", "shared"])
def house(request: pytest.FixtureRequest) -> House:
    return House(shared=request.param)
