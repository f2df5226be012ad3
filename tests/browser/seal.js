// Seals mail for a link (FORMAT.md sections 2, 4, 6), so that tests can make whatever a page may meet.
// Written from FORMAT.md apart from page/sealed.js: what they have in common is the page they follow.
import { createHash, createHmac, randomBytes, createCipheriv, generateKeyPairSync, sign } from 'node:crypto';

const u = (bytes) => (value) => {
    const out = Buffer.alloc(8);
    out.writeBigUInt64BE(BigInt(value));
    return out.subarray(8 - bytes);
};
const u8 = u(1), u16 = u(2), u32 = u(4), u64 = u(8);
const b16 = (b) => Buffer.concat([u16(b.length), b]);
const b32 = (b) => Buffer.concat([u32(b.length), b]);
const label = (s) => b16(Buffer.from(s));
const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();
const hmac = (key, message) => createHmac('sha256', key).update(message).digest();

export function cake(key, plaintext, nonce = randomBytes(24)) {
    const derived = createHash('sha512').update(key).update(nonce).digest();
    const out = [nonce, derived.subarray(32)];
    const last = Math.floor(plaintext.length / 16384);
    for (let i = 0; i <= last; i++) {
        const iv = Buffer.alloc(12);
        iv.writeUInt32LE(2 * i + (i === last ? 1 : 0));
        const aes = createCipheriv('aes-256-gcm', derived.subarray(0, 32), iv);
        out.push(aes.update(plaintext.subarray(i * 16384, (i + 1) * 16384)), aes.final(), aes.getAuthTag());
    }
    return Buffer.concat(out);
}

/**
 * parts: [{bytes, mediaType, fileName}, ...] are what `body` lacks, each at its `spliceAt`.
 * Gives what the server keeps (reply, pieces) and what the link says (id, fragment).
 */
export function sealLink({ body, parts = [], added = '', expires = 4102444800, serverAccess = false,
                           signed = false, tamper = {} }) {
    const sender = signed ? generateKeyPairSync('ed25519') : null;
    const signPk = sender ? sender.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32) : Buffer.alloc(0);
    const userId = sender ? randomBytes(16) : Buffer.alloc(0);
    const all = [{ bytes: body, mediaType: 'message/rfc822', fileName: '', spliceAt: 0 }, ...parts];
    const keys = all.map(() => randomBytes(32));
    const pieces = all.map((p, i) => cake(keys[i], p.bytes));
    const manifest = Buffer.concat([
        Buffer.from('SPMF'), u8(1), u8(serverAccess ? 1 : 0), u64(Date.now()), u32(all.length),
        ...all.map((p, i) => Buffer.concat([
            u8(i ? 1 : 0), keys[i], tamper.hash === i ? randomBytes(32) : sha256(pieces[i]),
            u64(p.bytes.length + (tamper.length === i ? 1 : 0)), u64(p.spliceAt),
            b16(Buffer.from(p.mediaType)), b16(Buffer.from(p.fileName))])),
        b32(Buffer.from(added))]);
    const [sharedKey, messageId, ephemeral, commitment, linkId, password] =
        [32, 16, 32, 32, 16, 32].map((n) => randomBytes(n));
    const sealedManifest = cake(sharedKey, manifest);
    const envelope = Buffer.concat([
        Buffer.from('SPEV'), u8(1), u8(1), u16(0), messageId, ephemeral, b16(userId), b16(signPk), commitment,
        u32(all.length), ...pieces.map((p) => u64(p.length)), b32(sealedManifest)]);
    const recipient = Buffer.concat([b16(linkId), u32(0), b16(Buffer.alloc(0)), b16(u64(expires))]);
    const digest = sha256(label('sealpost/1 recipient-associated digest'), u8(1), u8(3), messageId, b16(userId),
        b16(signPk), ephemeral, recipient, sha256(sealedManifest), commitment);
    const signature = sender
        ? sign(null, Buffer.concat([label('sealpost/1 recipient signature'), digest]), sender.privateKey)
        : Buffer.alloc(0);
    if (tamper.signature) signature[5] ^= 1;
    const sealed = cake(hmac(password, digest), Buffer.concat([sharedKey, signature]));
    const id = linkId.toString('base64url');
    return {
        id, pieces, gate: hmac(password, 'sealpost/1 gate').toString('base64url'),
        reply: Buffer.concat([b32(envelope), b32(Buffer.concat([u8(3), recipient, b16(sealed)]))]),
        fragment: `${password.toString('base64url')}.${digest.toString('base64url')}`,
        message: join(Buffer.from(added), body, parts),
    };
}

export function join(added, body, parts) {
    const out = [added];
    let at = 0;
    for (const p of parts) {
        out.push(body.subarray(at, p.spliceAt), p.bytes);
        at = p.spliceAt;
    }
    return Buffer.concat([...out, body.subarray(at)]);
}
