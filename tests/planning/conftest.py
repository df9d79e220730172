"""What the tests of plans share: a network of few layers, so that its step compiles in seconds."""

import pytest

from mdp_jax.models.backbones import resnet


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Makes resnet18 a network of four blocks instead of eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, "resnet18", (resnet.BasicBlock, (1, 1, 1, 1)))
        yield
