"""One gRPC server with every service of a node, health and reflection among them, so that grpcurl works without files."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kvproto.errors import UserError
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2, key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from kvstore.api.admin import AdminService
from kvstore.api.key_value import KeyValueService
from kvstore.api.peer import PeerService
from kvstore.transport.security import Security

HEALTH_AIO: Any = vars(health)["aio"]  # the type stubs do not know it
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in ((key_value_pb2, "KeyValue"), (peer_pb2, "Peer"), (admin_pb2, "Admin"))
)


class GrpcServer:
    """The node's services on `server`, a `grpc.aio.Server`, at one address; `port` is what was bound."""

    def __init__(
        self, server: Any, address: str, key_value: KeyValueService, peer: PeerService, admin: AdminService, *, security: Security
    ) -> None:
        self._server = server
        self._health = HEALTH_AIO.HealthServicer()
        key_value_pb2_grpc.add_KeyValueServicer_to_server(key_value, self._server)
        peer_pb2_grpc.add_PeerServicer_to_server(peer, self._server)
        admin_pb2_grpc.add_AdminServicer_to_server(admin, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            self.port = security.listen(self._server, address)
        except RuntimeError as error:
            raise UserError(
                f"cannot listen on {address}: it is in use, or not an address of this machine", subject=address
            ) from error

    async def start(self) -> None:
        """Accepts connections; health says NOT_SERVING until `serve`."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()

    async def serve(self) -> None:
        """Health says SERVING."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Says NOT_SERVING, accepts nothing new, gives what is under way `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)
