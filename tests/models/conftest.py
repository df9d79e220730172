"""What PyTorch computed: read from golden/, and, where torch is installed, computed anew as well."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(params=["stored", "computed"])
def torch_outputs(request: pytest.FixtureRequest) -> Callable[[str], dict[str, np.ndarray]]:
    """A function from the name of a case of make_golden.py to its arrays."""

    if request.param == "computed":
        pytest.importorskip("torch")
        from tests.models import make_golden

        def computed(case: str) -> dict[str, np.ndarray]:
            for library in ("torchvision", "mmseg", "timm"):
                if case.startswith(library):
                    pytest.importorskip(library)
            return make_golden.CASES[case]()

        return computed
    return _stored


def _stored(case: str) -> dict[str, np.ndarray]:
    with np.load(pathlib.Path(__file__).parent / "golden" / f"{case}.npz") as arrays:
        return dict(arrays)
