// A client of the hub in another language: calls an agent, follows events, hears of a death.
//
//   node hub_client.mjs ENDPOINT NAME        with zeromq and @msgpack/msgpack below $MODULES/node_modules
//
// One JSON line for each thing that happens. Source: docs/protocol.md.

import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.MODULES, "index.js"));
const { Dealer } = require("zeromq");
const { encode, decode } = require("@msgpack/msgpack");

const CALL = 0x32, CAST = 0x34, MONITOR = 0x36, PUBLISH = 0x38, SUBSCRIBE = 0x39, CREDIT = 0x3b, REPLAY = 0x3c;
const SIGNAL = 0x40, EVENT = 0x41, WELCOME = 0x50, DONE = 0x51, REFUSED = 0x52, DOWN = 0x53;

class HubClient {
  constructor(endpoint) {
    this.socket = new Dealer({ probeRouter: true, linger: 0 }); // the probe makes the hub say welcome
    this.socket.connect(endpoint);
    this.lastId = 0;
    this.waiting = new Map();
  }

  say(...message) {
    this.turn = (this.turn ?? Promise.resolve()).then(() => this.socket.send(encode(message)));
    return this.turn;
  }

  ask(kind, ...rest) {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.say(kind, id, ...rest);
    });
  }

  async listen(onSignal) {
    for await (const [frame] of this.socket) {
      const [kind, ...rest] = decode(frame);
      if (kind === SIGNAL || kind === EVENT) {
        onSignal(...rest);
        this.say(CREDIT, 1);
      } else if (kind === WELCOME) {
        this.welcome?.(rest);
      } else {
        const { resolve, reject } = this.waiting.get(rest[0]) ?? {};
        this.waiting.delete(rest[0]);
        if (kind === DONE) resolve?.(rest[1]);
        else if (kind === DOWN) resolve?.(rest.slice(1));
        else if (kind === REFUSED) reject?.(rest.slice(1));
      }
    }
  }
}

const print = (...line) => console.log(JSON.stringify(line));
const [endpoint, name] = process.argv.slice(2);
const hub = new HubClient(endpoint);
const welcomed = new Promise((resolve) => (hub.welcome = resolve));
hub.listen((topic, message, seq) => print("signal", topic, message, seq ?? null)).catch(() => {});

const [version] = await welcomed;
print("welcome", version);
print("called", await hub.ask(CALL, name, "echo", [1, "zwei"], { three: 3.5 }));
await hub.ask(CALL, "nobody", "echo").catch(([code]) => print("refused", code));
hub.say(CAST, name, "note", ["from node"]);
await hub.ask(SUBSCRIBE, "regrow.event.>");
await hub.ask(SUBSCRIBE, "node.*");
hub.say(CREDIT, 100);
print("oldest", await hub.ask(REPLAY, 0));
print("published", await hub.ask(PUBLISH, "node.js", { bytes: 3 }));
const [who, incarnation, reason] = await hub.ask(MONITOR, name);
print("down", who, incarnation, reason);
hub.socket.close();
