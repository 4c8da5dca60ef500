"""The closing verdict of `python -m tests.durability.prove`: proven if the release passes and each planted mistake is caught."""

from __future__ import annotations

from tests.durability.proof import Proof
from tests.durability.prove import is_proven, table
from tests.durability.verdict import Ack

ACK = Ack("k", b"v", 100, ("n1", "n2"))


def run(build: str, *, early: bool = False, lost: bool = False) -> Proof:
    """The outcome of a run with one acknowledged write."""
    proof = Proof(build, acks=[ACK])
    proof.synced.checked = proof.found.acknowledged = 1
    if early:
        proof.synced.too_early.append(ACK)
    if lost:
        proof.found.lost.append((ACK.key, ACK.value))
    return proof


def test_a_release_that_passes_beside_planted_builds_that_are_caught_is_the_proof() -> None:
    assert is_proven([run("released"), run("no-sync", early=True, lost=True), run("early-ack", early=True)])


def test_a_planted_build_that_is_not_caught_refutes_the_checker() -> None:
    assert not is_proven([run("released"), run("no-sync", early=True, lost=True), run("early-ack")])


def test_a_release_that_acknowledges_early_or_loses_something_or_did_nothing_does_not_pass() -> None:
    planted = run("no-sync", early=True, lost=True)
    assert not is_proven([run("released", early=True), planted])
    assert not is_proven([run("released", lost=True), planted])
    assert not is_proven([Proof("released"), planted])


def test_the_figures_of_each_run_stand_under_its_name() -> None:
    header, *rows = table([run("released"), run("no-sync", early=True, lost=True)]).splitlines()
    assert header.split() == ["released", "no-sync"]
    figures = {row[:18].strip(): row[18:].split() for row in rows}
    assert (figures["violations"], figures["lost after cut"]) == (["0", "1"], ["0", "1"])
    assert (figures["found after cut"], figures["acks checked"]) == (["1", "0"], ["1", "1"])
