"""``python -m manyeyes``: the same as the ``manyeyes`` command."""

from __future__ import annotations

from manyeyes.cli import main

if __name__ == "__main__":
    main()
