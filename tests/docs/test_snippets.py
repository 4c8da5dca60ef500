"""Every console, Python and TOML block of README.md and of the pages below docs/ is run; those that are not are counted.

A new page is found by itself. How a block that cannot be run says so is told in blocks.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import RUN, SHOWN, Block, blocks_of, marks_of, output_matches, typed_in
from tests.docs.page_run import PageRun
from tests.docs.rewriting import exit_code_of, rewritten, runs_on, shortened
from tests.house.repository import ROOT
from tests.support.kv_processes import DevCluster

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
}
BLOCKS = {name: blocks_of(page) for name, page in sorted(PAGES.items()) if "_build" not in name}
RUNNABLE = {name: [block for block in blocks if block.language in RUN] for name, blocks in BLOCKS.items()}
EXCUSED_MAX = 11
WORDS_OF_A_REASON_MIN = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """What pages talk to that start no cluster themselves."""
    with DevCluster(tmp_path_factory.mktemp("docs") / "cluster", "--policy", "orders=linearizable") as running:
        yield running


@pytest.mark.timeout(400)  # a page of many commands, on a machine with much else to do
@pytest.mark.parametrize("name", [name for name, blocks in RUNNABLE.items() if any(not block.excuse for block in blocks)])
def test_what_a_page_shows_works(name: str, cluster: DevCluster, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if any("$ kv chaos " in block.body for block in RUNNABLE[name]):
        request.getfixturevalue("toxiproxy_server")  # on a new machine it is built first, outside the time that a command has
    with PageRun(tmp_path, [node["address"] for node in cluster.nodes]) as page:
        for block in RUNNABLE[name]:
            if not block.excuse:
                page.run(block, name=f"{name}:{block.line}")


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    excused = {f"{name}:{block.line}": block.excuse for name, blocks in RUNNABLE.items() for block in blocks if block.excuse}
    assert len(excused) <= EXCUSED_MAX, excused
    assert {where: reason for where, reason in excused.items() if len(reason.split()) < WORDS_OF_A_REASON_MIN} == {}
    misplaced = [
        name for name, page in PAGES.items() if marks_of(page) != sum(bool(block.excuse) for block in RUNNABLE.get(name, []))
    ]
    assert misplaced == [], "the comment stands right above the block that it excuses"


def test_every_block_says_in_which_language_it_is() -> None:
    known = RUN | SHOWN
    strange = {
        f"{name}:{block.line}": block.language
        for name, blocks in BLOCKS.items()
        for block in blocks
        if block.language not in known and not block.language.startswith("{")
    }
    assert strange == {}, "commands stand in console blocks behind `$ `, code in python blocks, settings in toml blocks"


def test_a_console_block_holds_commands() -> None:
    empty = [
        f"{name}:{b.line}" for name, blocks in BLOCKS.items() for b in blocks if b.language == "console" and not [*typed_in(b.body)]
    ]
    assert empty == [], "a command stands behind `$ `"


def test_blocks_are_found_with_their_excuses_and_outputs() -> None:
    page = "# A\n\n<!-- not run by the tests: a reason of words -->\n```console\n$ a\n```\n\n- b\n\n  ```python\n  x = 1\n  ```\n"
    assert blocks_of(page) == [Block("console", "$ a\n", 4, "a reason of words"), Block("python", "x = 1\n", 10)]
    typed = [*typed_in("$ kv put a \\\n    b\nstored a\n$ kv get a\n")]
    assert [(one.command, one.shown) for one in typed] == [("kv put a \\\n    b", "stored a"), ("kv get a", "")]


def test_output_is_compared_but_for_what_is_left_out() -> None:
    assert output_matches("stored a (… replicas)", "stored a (2 of 3 replicas)\n")
    assert not output_matches("stored a", "stored b\n")


def test_commands_are_pointed_to_the_cluster_that_is_there_and_given_less_to_do(tmp_path: Path) -> None:
    nodes = ["127.0.0.1:15000", "127.0.0.1:16000"]
    said = 'kv --at 127.0.0.1:7410 get a; curl http://127.0.0.1:7401/ready; open("embedded:/path")'
    meant = f'kv --at 127.0.0.1:16000 get a; curl http://127.0.0.1:15001/ready; open("embedded:{tmp_path}/path")'
    assert rewritten(said, nodes, tmp_path) == meant
    assert shortened("kv sim run --minutes 30 --from 7") == "kv sim run --seeds 1 --from 7"
    assert [runs_on(line) for line in ("kv dev --nodes 3", "kv serve --config x", "kv dev stop n1", "kv get a")] == [
        True,
        True,
        False,
        False,
    ]
    assert [exit_code_of(line) for line in ("kv sim run --bug x", "kv sim run")] == [8, 0]
