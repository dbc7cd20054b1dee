"""Print the requirements of an installed package, without those named.

python tests/support/requirements_of.py PACKAGE [NAME ...]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from importlib.metadata import requires


def requirements(package: str, without: Collection[str]) -> list[str]:
    """Return the requirements of an installed package that name none of ``without``."""
    found = requires(package) or []
    return [line for line in found if re.split(r"[^\w.-]", line)[0] not in without]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], sys.argv[2:])))
