"""Filled examples of every message of kvproto.v1, and the table that wire_v1.json keeps of them.

An example's values follow from the field's *name*, never from its number: two fields that swap their numbers give other bytes.
The table is only ever added to: what a node of an older version sent stays an example for ever.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kvproto.v1 import admin_pb2, key_value_pb2, peer_pb2

GOLDEN = Path(__file__).with_name("wire_v1.json")
FILES: tuple[FileDescriptor, ...] = (key_value_pb2.DESCRIPTOR, peer_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR)

MESSAGES: dict[str, type[Message]] = {
    name: GetMessageClass(descriptor) for file in FILES for name, descriptor in sorted(file.message_types_by_name.items())
}
Table = dict[str, Any]


def _enums() -> Iterable[EnumDescriptor]:
    return (enum for file in FILES for enum in file.enum_types_by_name.values())


def _scalar(field: Any, salt: int) -> object:
    """A value that is not the default and that no other field of the message is likely to have. `field`: a descriptor, of whichever
    runtime."""
    seed = zlib.crc32(f"{field.name}/{salt}".encode())
    if field.enum_type is not None:
        numbers = [value.number for value in field.enum_type.values if value.number]
        return numbers[seed % len(numbers)]
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return seed.to_bytes(4, "big") + b"\x00\xff"
        case FieldDescriptor.CPPTYPE_STRING:
            return f"{field.name}-{salt}-é"
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return seed / 1024
        case FieldDescriptor.CPPTYPE_UINT64 | FieldDescriptor.CPPTYPE_INT64:
            return seed << 20 | 1
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_INT32:
            return seed >> 1 | 1
    raise AssertionError(f"no example for {field.full_name}: say here what one looks like")


def fill(message: Message) -> Message:
    """Sets every field of `message`, and of every message in it, to its example; repeated fields get two entries. Returns it."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if field.is_repeated:
                fill(getattr(message, field.name).add())
                fill(getattr(message, field.name).add())
            else:
                fill(getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).extend([_scalar(field, 1), _scalar(field, 2)])
        else:
            setattr(message, field.name, _scalar(field, 1))
    return message


def fields_of(message: Message) -> dict[str, Any]:
    """The message as JSON values, under the names of the .proto files."""
    return MessageToDict(message, preserving_proto_field_name=True)


def example(name: str) -> dict[str, Any]:
    """Today's example of one message: its bytes in hex and what they mean."""
    message = fill(MESSAGES[name]())
    return {"hex": message.SerializeToString(deterministic=True).hex(), "fields": fields_of(message)}


def methods() -> dict[str, str]:
    """Every method's full path, with the types it takes and gives."""
    return {
        f"/{service.full_name}/{method.name}": (
            f"{'stream ' * method.client_streaming}{method.input_type.name}"
            f" -> {'stream ' * method.server_streaming}{method.output_type.name}"
        )
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }


def enums() -> dict[str, dict[str, int]]:
    """Every enum's names with their numbers."""
    return {enum.name: {value.name: value.number for value in enum.values} for enum in _enums()}


def load() -> Table:
    """The kept table: `messages` (name to examples, oldest first), `enums`, `methods`."""
    table: Table = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return table


def extended(table: Table) -> Table:
    """`table` with today's examples, numbers and methods added behind what it holds; nothing in it changes or goes."""
    messages = {name: list(examples) for name, examples in table["messages"].items()}
    for name in MESSAGES:
        today, kept = example(name), messages.setdefault(name, [])
        if not kept or kept[-1] != today:
            kept.append(today)
    numbers = {name: values | table["enums"].get(name, {}) for name, values in enums().items()}
    return {"messages": messages, "enums": table["enums"] | numbers, "methods": methods() | table["methods"]}
