"""Executes the Python blocks of one page in one process with one event loop: what a block defines, the next ones have.

A program: reads a block as a JSON object on a line, and answers null, or the traceback as a JSON string, on a line.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import sys
import traceback


async def main() -> None:
    """Until standard input ends. What blocks print goes to stderr, so that stdout has nothing but answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    names: dict[str, object] = {"__name__": "__page__"}
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        failure = None
        try:
            code = compile(asked["source"], asked["name"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                await result
        except Exception:  # noqa: BLE001 - whatever a page raises is for whoever runs it to tell
            failure = traceback.format_exc()
        answers.write(json.dumps(failure) + "\n")
        answers.flush()


if __name__ == "__main__":
    asyncio.run(main())
