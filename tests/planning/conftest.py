"""What the tests of plans share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def short_steps(shallow):
    """A step of the shallow network compiles in seconds."""
