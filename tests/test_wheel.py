"""The wheel: what is in it, and that it works from any folder."""

import os
import subprocess
import sys

CODE = """
import mdp_jax
from mdp_jax import config
print(mdp_jax.__file__)
print(len(config.load("configs/mini/pretrain.py").sources), config.load("mine.py").batch)
"""


def test_shipped_configs_are_found_from_any_folder(tmp_path, pytestconfig):
    python, site, work = sys.executable, tmp_path / "site", tmp_path / "work"
    build = [python, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=pytestconfig.rootpath, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert (site / "mdp_jax" / "py.typed").is_file()
    assert (site / "mdp_jax" / "serving" / "page.html").is_file()
    work.mkdir()
    text = "from configs import base\nfrom configs.mini import pretrain\n\n\ndef get_config():\n"
    (work / "mine.py").write_text(f"{text}    assert base.pretrain().batch == 256\n    return pretrain.get_config()\n")
    environment = os.environ | {"PYTHONPATH": str(site)}
    ran = subprocess.run([python, "-c", CODE], cwd=work, env=environment, capture_output=True, text=True)
    assert ran.stdout == f"{site / 'mdp_jax' / '__init__.py'}\n3 16\n", ran.stderr
    words = [str(site / "bin" / "mdp"), "pretrain", "--config", "configs/mini/pretrian.py", "--workdir", "w"]
    ran = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
    assert ran.stderr.endswith("no such Python file; the nearest is configs/mini/pretrain.py\n")
    assert ran.returncode == 2
