"""structlog, imported without rich, which it would load to draw tracebacks in colour: ours are plain, and name no local variables.

Rich and what it needs are a tenth of the processor time that a node takes to start.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["structlog"]

_NOT_THERE: Any = None  # for whoever imports it: `ModuleNotFoundError`
_is_hidden = "rich" not in sys.modules
if _is_hidden:
    sys.modules["rich"] = _NOT_THERE
try:
    import structlog
finally:
    if _is_hidden:
        del sys.modules["rich"]
