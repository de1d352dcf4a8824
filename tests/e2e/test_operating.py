"""Every shell block of docs/operating.md, in order, in one shell."""

import os
import re
import subprocess
import sys

import pytest

from server import BINARY, ROOT

PAGE = ROOT / "docs" / "operating.md"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs its own mount and network namespaces")
def test_every_shell_block_of_the_operating_page(tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) > 8
    (tmp_path / "srv").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "shale").symlink_to(BINARY.resolve())
    script = tmp_path / "page.sh"
    script.write_text(
        f"set -euo pipefail\nmount --bind {tmp_path}/srv /srv\nip link set lo up\n"
        + "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nset -x\n"
        + "\n".join(blocks)
    )
    path = f"{tmp_path}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("SHALE_", "AWS_"))} | {"PATH": path}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "bash", script], env=environment, capture_output=True, text=True, timeout=600
    )
    log = tmp_path / "srv" / "log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}\n{log.read_text()[-3000:] if log.exists() else ''}"
