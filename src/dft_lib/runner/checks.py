"""Check the study before it starts: ``python -m dft_lib.runner.checks``, the stage ``check``."""

from __future__ import annotations

import sys

from dft_lib.repro.files import write_json
from dft_lib.repro.paths import ROOT
from dft_lib.study import params


def main() -> None:
    """Check, and leave a file of constant content, which the first stages depend on."""
    try:
        params.load()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    write_json(ROOT / "runs" / "checked.json", {"checked": True})


if __name__ == "__main__":
    main()
