"""A package with an action of its own, as `docs/actions.md` builds it: installed from the text of that page."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "actions.md"


def install(folder: Path) -> Path:
    """Write the page's package, install it below `folder`, and give the folder to put on the path of a process."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    files = re.findall(r"^```text (\S+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for name, text in files:
        (source / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True)
    return site
