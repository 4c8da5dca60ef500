"""What every part of repair works on, made once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from kvstore.cluster.view import RingHolder
from kvstore.config import NodeConfig
from kvstore.core.reaping import Grace
from kvstore.repair.pace import Pace
from kvstore.runtime import Clock
from kvstore.storage.half import StorageHalf
from kvstore.storage.registers import Registers
from kvstore.storage.replica import Replica
from kvstore.transport.peers import PeerTransport


@dataclass(slots=True, frozen=True)
class Surroundings:
    """One node's. `pace` is of all work that nobody waits for."""

    config: NodeConfig
    storage: StorageHalf
    registers: Registers
    replica: Replica
    peers: PeerTransport
    ring: RingHolder
    clock: Clock
    pace: Pace
    grace: Grace
