// An example: check a receipt of the service without the service. It needs nothing but Node.js 18.
//
//   node verify_receipt.mjs receipt.json 'lizenzserver/…+1a2b3c4d+AbC…'
//
// It shows that the event in the receipt is, byte for byte, in the log whose checkpoint the key has signed. The key must
// come from elsewhere: from whoever you trust with it, or from the time before there was anything to argue about.

import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const ED25519 = 1;

function check(condition, why) {
  if (!condition) throw new Error(why);
}

const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();
const base64 = (text) => Buffer.from(text, 'base64');

// C2SP signed-note: a key is name+hash+base64, and its hash is over name and key.
function parseKey(text) {
  const [, name, hash, encoded] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text.trim()) ?? [];
  check(name, 'that is no verifier key');
  const key = base64(encoded);
  check(key.length === 33 && key[0] === ED25519, 'the key is none of Ed25519');
  const ownHash = sha256(Buffer.from(`${name}\n`), key).subarray(0, 4);
  check(ownHash.toString('hex') === hash, 'the key is damaged');
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: key.subarray(1).toString('base64url') };
  return { name, hash: ownHash, public: createPublicKey({ key: jwk, format: 'jwk' }) };
}

// C2SP tlog-checkpoint: name, size and root, an empty line, signatures.
function openCheckpoint(note, key) {
  const end = note.lastIndexOf('\n\n');
  check(end > 0, 'that is no checkpoint');
  const signed = Buffer.from(note.slice(0, end + 1));
  const [origin, size, root] = note.slice(0, end).split('\n');
  check(origin === key.name, `the checkpoint is of ${origin}, the key is for ${key.name}`);
  check(/^[1-9][0-9]*$/.test(size), 'the checkpoint has no size');
  const signatures = note.slice(end + 2).split('\n').filter((line) => line.startsWith(`\u2014 ${key.name} `));
  const mine = signatures.map((line) => base64(line.split(' ')[2])).find((raw) => raw.subarray(0, 4).equals(key.hash));
  check(mine, 'the checkpoint is not signed by this key');
  check(verify(null, signed, key.public, mine.subarray(4)), 'the signature is wrong');
  return { size: BigInt(size), root: base64(root) };
}

// RFC 9162, section 2.1.3.2.
function rootOf(leaf, index, size, proof) {
  let [place, last, root] = [index, size - 1n, sha256(Buffer.of(0), leaf)];
  check(place >= 0n && place <= last, 'the leaf is not in the tree');
  for (const hash of proof) {
    check(hash.length === 32, 'the proof holds what is no hash');
    check(last > 0n, 'the proof is too long');
    if (place & 1n || place === last) {
      root = sha256(Buffer.of(1), hash, root);
      while (place !== 0n && !(place & 1n)) [place, last] = [place >> 1n, last >> 1n];
    } else {
      root = sha256(Buffer.of(1), root, hash);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  check(last === 0n, 'the proof is too short');
  return root;
}

// The leaf is all of the stored event: position, aggregate, version, type and JSON.
function parseLeaf(leaf) {
  const end = 36 + leaf.readUInt32BE(32);
  return {
    position: leaf.readBigUInt64BE(0),
    aggregate: leaf.toString('hex', 8, 24).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    version: leaf.readBigUInt64BE(24),
    type: leaf.toString('utf8', 36, end),
    state: JSON.parse(leaf.toString('utf8', end)),
  };
}

try {
  const [file, keyText] = process.argv.slice(2);
  check(file && keyText, 'usage: node verify_receipt.mjs RECEIPT KEY');
  const receipt = JSON.parse(readFileSync(file, 'utf8'));
  const { size, root } = openCheckpoint(receipt.checkpoint, parseKey(keyText));
  const leaf = base64(receipt.leaf);
  const found = rootOf(leaf, BigInt(receipt.leaf_index), size, receipt.proof.map(base64));
  check(found.equals(root), 'the event is not in the log that was signed');
  const event = parseLeaf(leaf);
  // What the receipt says beside the leaf is for people, and must be the same.
  check(event.state.event_id === receipt.event_id, 'the receipt names another event than its leaf');
  check(event.type === receipt.type && event.position === BigInt(receipt.position), 'the receipt says other than its leaf');
  console.log(`good: event ${receipt.event_id} is number ${BigInt(receipt.leaf_index) + 1n} of the ${size} that were signed`);
  console.log(`${event.state.occurred_at} ${event.type} ${event.aggregate} version ${event.version} by ${event.state.cause.actor}`);
  console.log(JSON.stringify(event.state.data));
} catch (wrong) {
  console.error(`bad: ${wrong.message}`);
  process.exitCode = 1;
}
