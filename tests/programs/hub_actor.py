"""A process with a mailbox and a few handlers; more arguments are patterns, whose signals it prints."""

import json
import os
import sys

import msgspec

from regrow.ipc import wire
from regrow.ipc.mailbox import Envelope, Signal
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.signals import Signals

run_dir, name, *patterns = sys.argv[1:]
node = Node(run_dir, MailboxSpec(name, 1))
signals = Signals(node, node.deliver)
node.announce()
for pattern in patterns:
    signals.subscribe(pattern)
print("ready", flush=True)


def serve(envelope: Envelope) -> None:
    args = msgspec.msgpack.decode(envelope.args)
    kwargs = msgspec.msgpack.decode(envelope.kwargs)
    match envelope.handler:
        case "echo":
            node.reply(envelope, wire.encode((wire.REPLY, envelope.id, [args, kwargs])))
        case "never":
            print("never", flush=True)
        case "fail":
            node.refuse(envelope, "remote_error", "no such sku", type="KeyError")
        case "bad":
            node.refuse(envelope, "bad_request", "Expected `int` - at `$.quantity`", path="$.quantity")
        case "die":
            os._exit(3)
        case "note":
            print(json.dumps([args, kwargs]), flush=True)


while True:
    item = node.receive()
    if isinstance(item, Envelope):
        serve(item)
    elif isinstance(item, Signal):
        signals.handled()
        print(json.dumps([item.topic, item.message, item.lost]), flush=True)
