// What page/sealed.js must give for tests/vectors/*.json. Runs in Node and, as it stands, in a browser:
// nothing but the module under test and data that was read for it.

const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (x) => parseInt(x, 16));
const hex = (b) => Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');

function same(got, want, what) {
    if (got !== want) throw new Error(`${what}: got ${String(got).slice(0, 100)}, want ${String(want).slice(0, 100)}`);
}

async function refused(run, what, step) {
    try { await run(); } catch (error) {
        if (error.name === 'Error' && (!step || error.step === step)) return; // a SealedError, not a slip
        throw error;
    }
    throw new Error(`${what}: accepted`);
}

/** An async source that gives `b` in parts of uneven sizes, empty ones among them. */
export async function* dribble(b, sizes = [1, 0, 55, 16384, 7, 20000, 65536]) {
    for (let at = 0, i = 0; at < b.length; at += sizes[i++ % sizes.length])
        yield b.subarray(at, at + sizes[i % sizes.length]);
}

async function collect(sealed, source) {
    const parts = [];
    for await (const part of source) parts.push(part);
    return sealed.concat(...parts);
}

function linkOf(sealed, url) {
    const { pathname, hash } = new URL(url);
    return sealed.parseLink(pathname, hash);
}

const b32 = (sealed, b) => sealed.concat(new Uint8Array([b.length >>> 24, b.length >>> 16, b.length >>> 8, b.length]), b);

/** [name, async run] of every case. v: {cake, malformed, messages}, long plaintexts filled in. */
export function cases(sealed, v) {
    const list = [];
    for (const c of v.cake.cases) list.push([`cake ${c.length}`, async () => {
        const ciphertext = bytes(c.ciphertext);
        same(sealed.cakePlainLength(ciphertext.length), c.length, 'length');
        const open = sealed.openCake(bytes(c.key), ciphertext.length, dribble(ciphertext), 'piece');
        same(hex(await collect(sealed, open)), c.plaintext, 'plaintext');
        same(hex(new sealed.Sha256().update(ciphertext).digest()), c.ciphertext_sha256, 'hash');
    }]);
    for (const c of v.cake.bad) list.push([`cake, bad: ${c.why}`, () =>
        refused(() => sealed.openWhole(bytes(c.key), bytes(c.ciphertext), 'piece'), c.why, 'piece')]);
    const decoder = { envelope: sealed.decodeEnvelope, box: sealed.decodeBox, manifest: sealed.decodeManifest };
    for (const c of v.malformed.cases) list.push([`malformed ${c.object}: ${c.why}`, () =>
        refused(() => decoder[c.object](bytes(c.bytes)), c.why, c.object)]);
    for (const m of v.messages.messages) list.push([`message: ${m.name}`, () => checkMessage(sealed, m)]);
    return list;
}

async function checkMessage(sealed, m) {
    const envelope = sealed.decodeEnvelope(bytes(m.envelope));
    for (const box of m.boxes) // the digest is for kinds 1 and 2 too, though a page never opens them
        same(hex(await sealed.digestOf(envelope, sealed.decodeBox(bytes(box.box)))), box.digest, 'digest');
    const link = linkOf(sealed, m.link);
    same(hex(await sealed.gateOf(link.password)), m.gate, 'gate');
    same(hex(await sealed.sha256(bytes(m.gate))), m.gate_sha256, 'what the server keeps');
    const box = m.boxes.find((b) => b.kind === 3);
    const reply = sealed.concat(b32(sealed, bytes(m.envelope)), b32(sealed, bytes(box.box)));
    const mail = await sealed.openMail(link, reply);
    same(mail.serverAccess, (m.flags & 1) === 1, 'server access');
    same(mail.signature === 'none', !m.sender_sign_seed, 'signature');
    const plain = [];
    for (const [i, piece] of mail.pieces.entries()) {
        plain.push(await collect(sealed, sealed.openPiece(piece, dribble(bytes(m.pieces[i].ciphertext)))));
        same(hex(plain[i]), m.pieces[i].plaintext, `piece ${i}`);
    }
    const parts = Array.from(sealed.rejoin(mail, plain[0]), (p) => (p.number ? plain[p.number] : p));
    same(hex(sealed.concat(...parts)), m.message, 'message');
    for (const other of m.boxes.filter((b) => b.kind !== 3))
        await refused(() => sealed.openMail({ ...link, digest: bytes(other.digest) },
            sealed.concat(b32(sealed, bytes(m.envelope)), b32(sealed, bytes(other.box)))), 'box of another kind', 'box');
}
