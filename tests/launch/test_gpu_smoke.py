"""gpu_smoke.sh from start to end, with stand-ins for the installation, the GPU and the commands of the venv."""

import shutil
import sys

import pytest

from tests.launch.scripts import LAUNCH, run

# Writes the metrics of a run into its --workdir: losses 10 and 20 on the CPU, 1 and 2 elsewhere.
MDP = """
[ "$1" != --help ] || { echo '  bench   figures'; exit 0; }
if [ "$1" = bench ] && [ -n "$BENCH" ]; then
    echo '[{"case": "step", "ours": 3, "torch": null, "at most": 9}]' >"${@: -1}"
    exit
fi
[ "$1" = pretrain ] || exit 4
mkdir -p "${@: -1}"
echo 'profile of steps 30:60: pretrain/profile'
echo '  1.5 s: device busy 90%, waiting for data 4%, host 6%'
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

    def start(*arguments, **variables):
        report = tmp_path / "report"
        arguments = ["--report", str(report), *arguments]
        status, out, _ = run(root / "launch/gpu_smoke.sh", arguments, stand_ins, cwd=root, **variables)
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


GPU = 'case "$*" in *--loop*) exec sleep 60 ;; *--query*) echo "NVIDIA L4, 570.86, 23034 MiB" ;; *) echo all ;; esac'


def test_a_gpu_whose_use_is_not_told_is_no_step_that_failed(smoke, stand_ins):
    stand_ins.set("nvidia-smi", GPU.replace("exec sleep 60", "exit 9"))
    stand_ins.set("python", "exit 0")
    status, text, _ = smoke("--tests", "none", BENCH="1")
    assert status == 0 and set(rows(text).values()) == {"passed"}


def test_in_minutes(smoke, stand_ins):
    """With a GPU: the profile, two runs that are equal, the preset of the card, three precisions at two sizes."""
    stand_ins.set("nvidia-smi", GPU)
    stand_ins.set("python", f'case "$*" in "- "*) exec {sys.executable} "$@" ;; esac')
    status, text, report = smoke("--minutes", "9", BENCH="1")
    assert status == 0, text
    names = ["install", "devices", "pretrain", "once", "again", "deterministic", "torch", "preset_24gb"]
    for crop in (224, 512):
        names += [f"{precision}_{crop}" for precision in ("bfloat16", "tf32", "float32", "bfloat16")]
        names[-1] += "_compiled"
    assert list(rows(text)) == [*names, "loss"]
    assert set(rows(text).values()) == {"passed"}
    page = (report / "performance.md").read_text()
    assert page.startswith("# NVIDIA L4, 570.86, 23034 MiB, ")
    assert "| tf32_224 | step | 3.00 |  |  | 9.00 |  |" in page
    assert page.count("| step |") == 10
    assert "all losses are equal" in page
    assert "device busy 90%, waiting for data 4%, host 6%" in page
    calls = [call for call in stand_ins.calls() if call[:2] == ["mdp", "pretrain"]]
    assert calls[0][-6:-4] == ["--profile", "30:60"]


def test_what_there_is_no_time_for_is_left_out(smoke, stand_ins):
    """A step that would go on is ended when the minutes are over; the next ones are not begun."""
    stand_ins.set("make", "sleep 60")
    status, text, _ = smoke("--minutes", "1", SECONDS="24", BENCH="1")
    assert status == 1
    found = rows(text)
    assert found.pop("install") == "ended, no time"
    assert set(found.values()) == {"left out, no time"}
    assert {"pretrain", "deterministic", "float32_64", "loss"} <= found.keys()
