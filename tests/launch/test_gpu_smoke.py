"""gpu_smoke.sh from start to end, with stand-ins for the installation, the GPU and the commands of the venv."""

import shutil

import pytest

from tests.launch.scripts import LAUNCH, run

# Writes the metrics of a run into its --workdir: losses 10 and 20 on the CPU, 1 and 2 elsewhere.
MDP = """
[ "$1" != --help ] || { echo '  bench   figures'; exit 0; }
[ "$1" = pretrain ] || exit 4
mkdir -p "${@: -1}"
for step in 1 2; do
    echo "{\\"step\\": $step, \\"dataset_loss\\": [7, 8], \\"loss\\": $step${JAX_PLATFORMS:+0}, \\"sparse_loss\\": 9}"
done >"${@: -1}/metrics.jsonl"
"""


@pytest.fixture
def smoke(tmp_path, stand_ins):
    """A function that runs the script in a copy of launch/: exit status, report.md, folder of the report."""
    root = tmp_path / "repository"
    shutil.copytree(LAUNCH, root / "launch")
    (root / ".venv/bin").mkdir(parents=True)
    (root / "tests").mkdir()
    stand_ins.set("make", "exit 0")
    stand_ins.set("mdp", MDP)
    stand_ins.set("python", 'case "$*" in *assert*|*pip*) echo said ;; *) exit 1 ;; esac')
    for name in ("mdp", "python"):
        (root / ".venv/bin" / name).symlink_to(stand_ins.folder / name)

    def start():
        report = tmp_path / "report"
        status, out, _ = run(root / "launch/gpu_smoke.sh", ["--report", str(report)], stand_ins, cwd=root)
        assert out == (report / "report.md").read_text()
        return status, out, report

    return start


def rows(report):
    """Step and outcome of each row of the table."""
    cells = [line.split("|") for line in report.splitlines() if line.startswith("| ")]
    return {row[1].strip(): row[2].strip() for row in cells[1:]}


def test_without_a_gpu(smoke, stand_ins):
    status, text, report = smoke()
    assert status == 1
    assert rows(text) == {
        "install": "passed",
        "devices": "passed",
        "tests": "failed, exit status 1",
        "pretrain": "passed",
        "bench": "failed, exit status 4",
    }
    assert "No GPU was used: everything ran on the CPU" in text
    assert ["make", "venv"] in stand_ins.calls()
    assert (report / "devices.log").read_text() == "said\n"
    assert text.endswith("```\n1 1\t\n2 2\t\n```\n")


def test_with_a_gpu(smoke, stand_ins):
    query = "*--loop*) echo use; exec sleep 60 ;; *--query*) echo NVIDIA L4, 570.86, 23034 MiB ;;"
    stand_ins.set("nvidia-smi", f'case "$*" in {query} *) echo all ;; esac')
    stand_ins.set("python", "exit 0")
    _, text, report = smoke()
    assert rows(text)["pretrain_cpu"] == "passed"
    assert "GPU (name, driver, memory): NVIDIA L4, 570.86, 23034 MiB\n" in text
    assert "No GPU" not in text
    assert ["make", "venv", "EXTRA=cuda12"] in stand_ins.calls()
    assert (report / "nvidia-smi.txt").read_text() == "all\n"
    assert (report / "gpu_use.csv").read_text() == "use\n"
    assert text.endswith("```\n1 1\t1 10\n2 2\t2 20\n```\n")
    assert not (report / "steps.md").exists()
