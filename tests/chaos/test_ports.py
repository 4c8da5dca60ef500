"""Ports for clusters whose addresses must be known before anything listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from random import Random

from kvchaos import ports
from kvchaos.ports import HOST, find_free_ports

CHOOSE = (
    "import sys; from random import Random; from kvchaos.ports import *; "
    "print(find_free_ports(20, Random(int(sys.argv[1])))[0], flush=True)"
)


def test_bug_two_runs_that_began_at_once_chose_the_same_ports() -> None:
    """A proxy could not listen: `address already in use`. Both runs had found the port free, and one of them listened first."""
    given_back = []
    for seed in ("7", "8", "9"):  # for somebody else on this machine may take some, in between
        held = [sys.executable, "-c", CHOOSE + "; sys.stdin.read()", seed]
        with subprocess.Popen(held, stdin=-1, stdout=-1, text=True) as other:
            assert other.stdout is not None
            theirs = int(other.stdout.readline())
            ours = find_free_ports(20, Random(int(seed)))
            other.communicate("")
        assert not set(ours) & set(range(theirs, theirs + 20))
        again = subprocess.run([sys.executable, "-c", CHOOSE, seed], capture_output=True, text=True, check=True, timeout=30)
        given_back.append(int(again.stdout) == theirs)
    assert any(given_back), "a run that is over has given its ports back"


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    taken = find_free_ports(3, Random(8))
    ports._reserved.pop().close()
    with socket.socket() as listening:
        listening.bind((HOST, taken[1]))
        listening.listen(1)
        assert not set(find_free_ports(3, Random(8))) & set(taken)


def test_a_process_that_goes_on_choosing_keeps_its_latest_only() -> None:
    chosen = [find_free_ports(1) for _ in range(ports.RESERVED_MAX + 3)]
    assert len(ports._reserved) == ports.RESERVED_MAX
    assert len({port for row in chosen[-ports.RESERVED_MAX :] for port in row}) == ports.RESERVED_MAX
