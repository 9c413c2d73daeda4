"""The packages of docs/extending.md, installed from the text of the page."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def install(folder: Path, section: str) -> Path:
    """Install the package of a section below `folder`, and return the folder to put on the path of a process."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    files = re.findall(r"^```text (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for name, content in files:
        (source / name).write_text(content)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True)
    return site
