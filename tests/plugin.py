"""The packages that pages of the documentation build, installed from the text of the page."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def install(folder: Path, page: str) -> Path:
    """Write the package of a page, install it below `folder`, and give the folder to put on the path of a process."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    files = re.findall(r"^```text (\S+)\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    for name, text in files:
        (source / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True)
    return site
