"""What a fault plane raises; the split is whose failure it was."""

from __future__ import annotations

from kvchaos.processes import FaultFailed

EXIT_INCONCLUSIVE = 9


class InjectorFailure(FaultFailed):
    """The injector did not do what it was told, or it could not be seen that it did: the run is inconclusive, never a pass."""

    exit_code = EXIT_INCONCLUSIVE


class InjectorWedged(InjectorFailure):
    """The injector's own server does not answer any more (Toxiproxy 2.12 deadlocks, Shopify/toxiproxy#558)."""
