"""PyTorch's outputs for the comparison without PyTorch, stored in golden/CASE.npz.

    pip install torch && python -m tests.parity.make_golden

from the repository's root writes them anew. They are what the reference (mdp_jax/parity/comparison_torch.py) computes
on the cases of mdp_jax/parity/comparison_case.py: whole arrays where they are small, otherwise fingerprints.
"""

import pathlib

import numpy as np

from mdp_jax.parity import comparison_case

FOLDER = pathlib.Path(__file__).parent / "golden"
STEPS = 4  # of pretraining and of fine-tuning
SMALL = 20  # values; larger arrays are stored as fingerprints


def fingerprint(array: np.ndarray) -> np.ndarray:
    """Three values of an array, evenly spaced, and the root of the mean of its squares; float64 [4]."""
    flat = array.astype(np.float64).reshape(-1)
    chosen = flat[np.linspace(0, flat.size - 1, 5).astype(int)[1:4]]
    return np.append(chosen, np.sqrt(np.mean(flat**2)))


def stored_forms(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each array as it is stored, float64 [n], in the order of the names."""
    return {
        name: array.astype(np.float64).reshape(-1) if array.size <= SMALL else fingerprint(array)
        for name, array in sorted(arrays.items())
    }


def in_one(sections: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One array for each section, all of its stored forms in a row: a file of many arrays is mostly headers."""
    return {section: np.concatenate(list(stored_forms(arrays).values())) for section, arrays in sections.items()}


def compute() -> dict[str, dict[str, np.ndarray]]:
    """PyTorch's side of the stored cases."""
    from mdp_jax.parity import comparison_torch as side

    small, large = (comparison_case.make_case(name, "float64", STEPS) for name in ("resnet18", "resnet50"))
    single = comparison_case.make_case("resnet18", "float32")
    with side.one_thread():
        resnet50, logits = side.forward(large), side.evaluation_logits(single)["evaluation"]["logits"]
    return {
        "method": in_one(side.method_results(small)),
        "resnet18": in_one(side.network_results(small)),
        "resnet50": in_one(resnet50),
        "float32": {"logits": logits},
        "optim": {**side.schedules("float64"), **side.sgd("float64")},
        "evaluation": {
            f"{kind}, {section}, {name}": array
            for kind in comparison_case.LABEL_MAPS
            for section, arrays in side.evaluation(kind).items()
            for name, array in arrays.items()
        },
    }


if __name__ == "__main__":
    for case, arrays in compute().items():
        np.savez_compressed(FOLDER / f"{case}.npz", **arrays)
