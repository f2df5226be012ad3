// All of the cryptography of the link page, to be read beside FORMAT.md, whose sections it follows.
// WebCrypto does the work (SHA-256, SHA-512, HMAC, AES-GCM; Ed25519 where the browser has it). Trusted
// are the link and this file; the server and the network are not: each byte that they give is hostile
// until a digest, a hash or a tag has vouched for it. Served as it stands here, byte for byte.
import { Sha256 } from './sha256.js';

export { Sha256 };

const subtle = globalThis.crypto?.subtle;

/** A refusal. `step` is one of link, envelope, digest, box, manifest, body, piece. */
export class SealedError extends Error {
    constructor(step, why) {
        super(`${step}: ${why}`);
        this.step = step;
    }
}
const fail = (step, why) => { throw new SealedError(step, why); };

// ---- 1. Notation -----------------------------------------------------------------------------

const text = (string) => new TextEncoder().encode(string);
const bytesOf = (n, value) => { // big-endian; numbers up to 2^53, which decoders see to
    const out = new Uint8Array(n);
    for (let i = n; i-- > 0; value = Math.floor(value / 256)) out[i] = value % 256;
    return out;
};
const u8 = (v) => bytesOf(1, v), u16 = (v) => bytesOf(2, v), u32 = (v) => bytesOf(4, v);
const b16 = (bytes) => concat(u16(bytes.length), bytes);

export function concat(...parts) {
    const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
    let at = 0;
    for (const part of parts) { out.set(part, at); at += part.length; }
    return out;
}

/** Compares without stopping at the first difference. */
export function equal(a, b) {
    let differ = a.length ^ b.length;
    for (let i = 0; i < a.length; i++) differ |= a[i] ^ b[i];
    return differ === 0;
}

export const b64u = (bytes) => btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** Exactly `length` bytes in their one spelling, or null. */
export function fromB64u(string, length) {
    if (!/^[A-Za-z0-9_-]*$/.test(string) || string.length !== Math.ceil(length * 8 / 6)) return null;
    const binary = atob(string.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
    return b64u(bytes) === string ? bytes : null; // no stray bits in the last digit
}

export const sha256 = async (bytes) => new Uint8Array(await subtle.digest('SHA-256', bytes));
const sha512 = async (bytes) => new Uint8Array(await subtle.digest('SHA-512', bytes));

async function hmac(key, message) {
    const hash = { name: 'HMAC', hash: 'SHA-256' };
    const handle = await subtle.importKey('raw', key, hash, false, ['sign']);
    return new Uint8Array(await subtle.sign('HMAC', handle, message));
}

/** Takes fields from bytes, in order; whatever does not fit is a refusal of `step`. */
class Fields {
    constructor(bytes, step) { this.left = bytes; this.step = step; }
    need(truth, why) { truth || fail(this.step, why); }
    bytes(n) {
        this.need(n <= this.left.length, 'cut short');
        const out = this.left.slice(0, n);
        this.left = this.left.subarray(n);
        return out;
    }
    number(n) {
        const value = this.bytes(n).reduce((sum, byte) => sum * 256 + byte, 0);
        this.need(Number.isSafeInteger(value), 'number out of range');
        return value;
    }
    prefixed(size, max) { // b16 (size 2), b32 (size 4)
        const n = this.number(size);
        this.need(n <= max, 'field too long');
        return this.bytes(n);
    }
    head(magic) {
        this.need(equal(this.bytes(4), text(magic)), 'not of this format');
        this.need(this.number(1) === 1, 'version unknown');
    }
    end() { this.need(this.left.length === 0, 'bytes left over'); }
}

// ---- 6. Link ---------------------------------------------------------------------------------

/**
 * The link in a page's address. A mail filter may have rewritten "#" to "%23" or "%2523": then what
 * should have been the fragment stands in the path, has been sent to the server, and is `exposed`.
 */
export function parseLink(path, fragment) {
    const [, id, behind] = /^\/m\/([^/%]*)(?:%(?:25)?23(.*))?$/.exec(path) ?? fail('link', 'no link');
    const secret = (behind ?? fragment.replace(/^#/, '')).split('.');
    const linkId = fromB64u(id, 16);
    const [password, digest] = [fromB64u(secret[0], 32), fromB64u(secret[1] ?? '', 32)];
    if (!linkId || !password || !digest || secret.length !== 2) fail('link', 'cut or changed');
    return { id, linkId, password, digest, exposed: behind !== undefined };
}

/** What the server is shown as a proof that one holds the link; it knows its SHA-256 alone. */
export const gateOf = (password) => hmac(password, text('sealpost/1 gate'));

// ---- 4. Envelope, box, manifest --------------------------------------------------------------

const MAX_PIECES = 256, MAX_MANIFEST = 1 << 20, MAX_ADDED = 1 << 18, MAX_NAME = 1024;

export function decodeEnvelope(bytes) {
    const f = new Fields(bytes, 'envelope'), e = {};
    f.head('SPEV');
    e.suite = f.number(1);
    f.need(e.suite === 1, 'suite unknown');
    f.need(f.number(2) === 0, 'flags unknown');
    e.messageId = f.bytes(16);
    e.ephemeralPk = f.bytes(32);
    e.senderUserId = f.prefixed(2, 16);
    e.senderSignPk = f.prefixed(2, 32);
    const form = `${e.senderUserId.length} ${e.senderSignPk.length}`;
    f.need(form === '16 32' || form === '0 0', 'half a sender');
    e.bccCommitment = f.bytes(32);
    const n = f.number(4);
    f.need(n >= 1 && n <= MAX_PIECES, 'piece count');
    e.pieceLengths = Array.from({ length: n }, () => f.number(8));
    e.manifest = f.prefixed(4, cakeLength(MAX_MANIFEST));
    f.need([...e.pieceLengths, e.manifest.length].every((l) => cakePlainLength(l) >= 0), 'a length');
    f.end();
    return e;
}

/** Any kind; a link page opens kind 3 alone. */
export function decodeBox(bytes) {
    const f = new Fields(bytes, 'box'), b = {};
    b.kind = f.number(1);
    f.need(b.kind >= 1 && b.kind <= 3, 'kind unknown');
    b.recipientId = f.prefixed(2, 16);
    b.pukGeneration = f.number(4);
    b.recipientPk = f.prefixed(2, 32);
    b.context = f.prefixed(2, 8);
    b.sealed = f.prefixed(2, 256);
    f.need(b.recipientId.length === 16, 'recipient');
    f.need((b.kind === 1) === (b.pukGeneration > 0), 'generation');
    f.need(b.recipientPk.length === (b.kind === 3 ? 0 : 32), 'key');
    f.need(b.context.length === (b.kind === 3 ? 8 : 0), 'context');
    const payload = b.sealed.length - (b.kind === 3 ? cakeLength(0) : 24 + 16);
    f.need(payload === 32 || payload === 96, 'payload');
    f.end();
    b.expires = b.kind === 3 ? new Fields(b.context, 'box').number(8) : 0; // Unix seconds
    return b;
}

const TOKEN = "[!#$%&'*+.^_`{|}~0-9a-z-]+"; // RFC 2045 5.1, lower case
const MEDIA_TYPE = new RegExp(`^${TOKEN}/${TOKEN}$`);
// A name of the manifest becomes a file's: no separator, no control, nothing that means a directory.
const isFileName = (name) => !/[\u0000-\u001f\u007f-\u009f/\\]/.test(name) && !/^\.\.?$/.test(name);
// Whole header fields, each ended by CRLF, folded lines not blank: they cannot end the header.
const ADDED = /^(?:[!-9;-~]+:[^\0\r\n]*\r\n(?:[ \t]+[^\0\r\n \t][^\0\r\n]*\r\n)*)*$/;

export function decodeManifest(bytes) {
    const f = new Fields(bytes, 'manifest'), m = {};
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const string = (raw) => { try { return utf8.decode(raw); } catch { return fail('manifest', 'not UTF-8'); } };
    f.need(bytes.length <= MAX_MANIFEST, 'too long');
    f.head('SPMF');
    const flags = f.number(1);
    f.need(flags <= 1, 'flags unknown');
    m.serverAccess = flags === 1;
    m.timeMs = f.number(8);
    const n = f.number(4);
    f.need(n >= 1 && n <= MAX_PIECES, 'piece count');
    m.pieces = Array.from({ length: n }, () => ({
        kind: f.number(1), key: f.bytes(32), hash: f.bytes(32), length: f.number(8), spliceAt: f.number(8),
        mediaType: string(f.prefixed(2, MAX_NAME)), fileName: string(f.prefixed(2, MAX_NAME)),
    }));
    m.added = f.prefixed(4, MAX_ADDED);
    f.end();
    m.pieces.forEach((p, i) => {
        f.need(p.kind === (i ? 1 : 0), 'kind of a piece');
        f.need(MEDIA_TYPE.test(p.mediaType) && isFileName(p.fileName), 'name of a piece');
        if (i === 0) f.need(p.spliceAt === 0 && p.mediaType === 'message/rfc822' && !p.fileName, 'body');
        else f.need(p.spliceAt >= m.pieces[i - 1].spliceAt && p.spliceAt <= m.pieces[0].length, 'order');
    });
    f.need(ADDED.test(new TextDecoder('latin1').decode(m.added)), 'added headers');
    return m;
}

/** The recipient-associated digest, 4.5: what the link names, and what K is bound to. */
export const digestOf = async (e, b) => sha256(concat(
    b16(text('sealpost/1 recipient-associated digest')), u8(e.suite), u8(b.kind), e.messageId,
    b16(e.senderUserId), b16(e.senderSignPk), e.ephemeralPk,
    b16(b.recipientId), u32(b.pukGeneration), b16(b.recipientPk), b16(b.context),
    await sha256(e.manifest), e.bccCommitment));

// ---- 2. Cake-AES -----------------------------------------------------------------------------

const CHUNK = 16384, TAG = 16, HEADER = 24 + 32;
const AT_ONCE = 32; // chunks opened at once, before whatever else waits in the page has its turn

/** A turn for others: promises alone, of which all is done already, would keep the page from being drawn. */
const breathe = () => new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(0);
});
const cakeLength = (n) => HEADER + n + TAG * (Math.floor(n / CHUNK) + 1);

/** Plaintext bytes in so many of ciphertext; -1 if no plaintext gives that many. */
export function cakePlainLength(sealed) {
    const chunks = sealed - HEADER, last = chunks % (CHUNK + TAG);
    if (!Number.isSafeInteger(sealed) || chunks < TAG || last < TAG) return -1;
    return Math.floor(chunks / (CHUNK + TAG)) * CHUNK + last - TAG;
}

/** Cuts what comes from `source` (an async iterable of Uint8Array) into pieces of a wanted size. */
class Intake {
    constructor(source, step) {
        this.from = source[Symbol.asyncIterator]();
        this.have = new Uint8Array(0);
        this.step = step;
    }
    async take(n) {
        const out = new Uint8Array(n);
        for (let at = 0; at < n;) {
            if (!this.have.length) await this.more() || fail(this.step, 'cut short');
            const part = this.have.subarray(0, n - at);
            out.set(part, at);
            at += part.length;
            this.have = this.have.subarray(part.length);
        }
        return out;
    }
    holds(n) { return this.have.length >= n; }
    async more() { // false: the source has ended
        let next;
        do next = await this.from.next(); while (!next.done && !next.value.length);
        if (!next.done) this.have = next.value;
        return !next.done;
    }
    async end() { if (this.have.length || await this.more()) fail(this.step, 'bytes left over'); }
    async close() { await this.from.return?.(); }
}

/**
 * Opens Cake(key, ...) of sealedLength bytes as it comes, and yields its chunks: none before its own
 * tag is verified, and the last only once the source has ended where it should.
 */
export async function* openCake(key, sealedLength, source, step) {
    const length = cakePlainLength(sealedLength);
    if (length < 0) fail(step, 'impossible length');
    const last = Math.floor(length / CHUNK), intake = new Intake(source, step);
    try {
        const header = await intake.take(HEADER);
        const derived = await sha512(concat(key, header.subarray(0, 24)));
        if (!equal(derived.subarray(32), header.subarray(24))) fail(step, 'commitment');
        const otk = await subtle.importKey('raw', derived.subarray(0, 32), 'AES-GCM', false, ['decrypt']);
        derived.fill(0);
        const open = (sealed, i) => {
            const iv = new DataView(new ArrayBuffer(12));
            iv.setBigUint64(0, 2n * BigInt(i) + (i === last ? 1n : 0n), true); // little-endian
            return subtle.decrypt({ name: 'AES-GCM', iv, tagLength: 128 }, otk, sealed)
                .catch(() => fail(step, `chunk ${i} is not what was sealed`));
        };
        const size = (i) => (i < last ? CHUNK : length % CHUNK) + TAG;
        for (let i = 0, rested = 0; i <= last;) {
            const batch = []; // of what has come: a slow network makes nobody wait for more
            do batch.push(await intake.take(size(i + batch.length)));
            while (batch.length < AT_ONCE && i + batch.length <= last && intake.holds(size(i + batch.length)));
            if (i + batch.length > last) await intake.end();
            for (const chunk of await Promise.all(batch.map((sealed, k) => open(sealed, i + k)))) yield new Uint8Array(chunk);
            i += batch.length;
            if (i - rested < AT_ONCE) continue;
            await breathe();
            rested = i;
        }
    } finally {
        await intake.close(); // hangs up where somebody stopped half-way
    }
}

/** The same for what is at hand as a whole. */
export async function openWhole(key, sealed, step) {
    async function* once() { yield sealed; }
    const chunks = [];
    for await (const chunk of openCake(key, sealed.length, once(), step)) chunks.push(chunk);
    return concat(...chunks);
}

// ---- 5. Opening, in this order ---------------------------------------------------------------

/** 'none' (the appliance sealed), 'good', or 'unchecked' (this browser has no Ed25519). */
async function checkSignature(e, digest, signature) {
    if (!e.senderSignPk.length) return 'none';
    let key;
    try { key = await subtle.importKey('raw', e.senderSignPk, 'Ed25519', false, ['verify']); }
    catch (error) { return error.name === 'NotSupportedError' ? 'unchecked' : fail('box', "sender's key"); }
    const signed = concat(b16(text('sealpost/1 recipient signature')), digest);
    return await subtle.verify('Ed25519', key, signature, signed) ? 'good' : fail('box', 'signature');
}

/** Steps 1 to 4, from what `GET /m/ID/envelope` gave: b32(envelope) || b32(box). */
export async function openMail(link, reply) {
    const f = new Fields(reply, 'envelope');
    const envelope = decodeEnvelope(f.prefixed(4, reply.length));
    const box = decodeBox(f.prefixed(4, reply.length));
    f.end();
    const digest = await digestOf(envelope, box);
    if (!equal(digest, link.digest)) fail('digest', 'not what the link names');
    if (box.kind !== 3 || !equal(box.recipientId, link.linkId)) fail('box', 'for another recipient');
    // Step 2, the sender's sigchain, is not ours to check: only clients have it. The page says so.
    const k = await hmac(link.password, digest);
    const payload = await openWhole(k, box.sealed, 'box');
    if (payload.length !== (envelope.senderSignPk.length ? 96 : 32)) fail('box', 'payload');
    const signature = await checkSignature(envelope, digest, payload.subarray(32));
    const manifest = decodeManifest(await openWhole(payload.subarray(0, 32), envelope.manifest, 'manifest'));
    for (const secret of [k, payload]) secret.fill(0);
    const lengths = envelope.pieceLengths;
    if (lengths.length !== manifest.pieces.length) fail('manifest', 'pieces of another envelope');
    manifest.pieces.forEach((p, i) => {
        if (p.length !== cakePlainLength(lengths[i])) fail('manifest', `length of piece ${i}`);
        Object.assign(p, { number: i, sealedLength: lengths[i] });
    });
    return { ...manifest, expires: box.expires, signature };
}

const WHOLE = 16 << 20; // bytes of ciphertext that are kept, for WebCrypto to hash as a whole

/** Takes a stream of so many bytes, and hashes it: where it is kept, much faster than a script can. */
class Kept {
    constructor(length) { this.all = new Uint8Array(length); this.at = 0; }
    update(part) {
        this.all.set(part.subarray(0, this.all.length - this.at), this.at);
        this.at = Math.min(this.all.length, this.at + part.length); // more than was announced: openCake refuses it
    }
    digest() { return sha256(this.all); }
}

/**
 * Step 5. Yields a piece's plaintext as its ciphertext comes, the last chunk only once the hash over
 * all of the ciphertext is right: whoever reaches the end without an error has the piece as sealed.
 */
export async function* openPiece(piece, source) {
    const step = piece.number === 0 ? 'body' : 'piece';
    const hash = piece.sealedLength <= WHOLE ? new Kept(piece.sealedLength) : new Sha256();
    async function* hashed() { for await (const part of source) { hash.update(part); yield part; } }
    let held;
    for await (const chunk of openCake(piece.key, piece.sealedLength, hashed(), step)) {
        if (held) yield held;
        held = chunk;
    }
    if (!equal(await hash.digest(), piece.hash)) fail(step, 'hash');
    yield held;
}

/** The message, 4.2: the parts of which it consists, in order: bytes, or a piece still to be fetched. */
export function* rejoin(mail, body) {
    yield mail.added;
    let at = 0;
    for (const piece of mail.pieces.slice(1)) {
        yield body.subarray(at, piece.spliceAt);
        yield piece;
        at = piece.spliceAt;
    }
    yield body.subarray(at);
}
