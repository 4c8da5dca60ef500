"""Whether links are as they should be: by the kernel's own list of rules, by connecting from where their packets come from, by the
packets that each rule has met meanwhile, and by what the nodes believe."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence

from kvchaos.faults.expectations import Expectation, expected_of
from kvchaos.faults.link_state import Link
from kvchaos.faults.nodes import Condition, NodeProcesses
from kvchaos.faults.verification import claim_of, wait_for_views
from kvchaos.netns import glance
from kvchaos.netns.namespaces import entering
from kvchaos.netns.rules import Rules

SILENCE_S = 0.6
PATIENCE_S = 5.0


class Sights:
    """Looks at a cluster; `namespaces` are those of its nodes."""

    def __init__(self, namespaces: Mapping[str, str]) -> None:
        self._namespaces = namespaces

    async def find_problems(self, rules: Rules, nodes: NodeProcesses, slow_before: Mapping[Link, Expectation]) -> list[str]:
        """A sentence for each link that is not as `rules` say, and for each node that does not see what it should. Raises
        `NodeDied`."""
        del slow_before  # nothing is slow here
        nodes.check()
        before = await rules.counts()
        ordered = {rule for link, state in rules.states.items() for rule in rules.rules(link, state)}
        problems = [f"{rule.namespace}: nobody ordered {rule.text}" for rule in before.keys() - ordered]
        problems += [f"{rule.namespace}: there is no {rule.text}" for rule in ordered - before.keys()]
        # Behind a target that is down or paused there is nothing to be seen.
        links = [link for link in rules.routes if nodes.conditions[link.target] is Condition.RUNNING]
        seen = await asyncio.gather(*(self._glance(rules, link) for link in links))
        after = await rules.counts()
        for link, word in zip(links, seen, strict=True):
            wanted = expected_of(rules.states[link])
            due = "refused" if wanted.refused else "greeted" if wanted.serves else "silent"
            if word != due:
                problems.append(f"{link}: should be {wanted.sentence()}, but a connection is {word}")
            elif not wanted.serves:
                first = rules.rules(link, rules.states[link])[0]
                if after.get(first, 0) <= before.get(first, 0):
                    problems.append(f"{link}: is {word}, but not by {first.text}, which has met no packet")
        if not problems:
            claims = {link: claim for link in links if (claim := claim_of(link, rules.states[link], nodes)) is not None}
            problems = await wait_for_views(claims, nodes)
        nodes.check()  # what died meanwhile was not the injector's doing
        return problems

    async def _glance(self, rules: Rules, link: Link) -> str:
        host, _, port = rules.routes[link].listen.rpartition(":")
        within = entering(self._namespaces[link.source]) if link.source in self._namespaces else ()
        wanted = expected_of(rules.states[link])
        patience_s = PATIENCE_S if wanted.serves or wanted.refused else SILENCE_S
        return await _word(*within, sys.executable, "-I", "-S", glance.__file__, host, port, str(patience_s))


async def _word(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL)
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode().strip() or f"ended with {process.returncode}"


def prefixes_of(namespaces: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """What to put before the command of each node, so that it runs in its namespace."""
    return {node: entering(name) for node, name in namespaces.items()}
