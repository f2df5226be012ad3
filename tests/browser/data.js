// The vectors, with what they only hint at filled in: long plaintexts are SHAKE256 of a label, and
// their ciphertexts are sealed here and must have the hash that the vectors give.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { cake } from './seal.js';

const read = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'));

export function loadVectors() {
    const vectors = { cake: read('cake'), malformed: read('malformed'), messages: read('messages') };
    for (const c of vectors.cake.cases) {
        const plaintext = c.length // OpenSSL gives no SHAKE of no bytes
            ? createHash('shake256', { outputLength: c.length }).update(c.plaintext_shake256_of).digest() : Buffer.alloc(0);
        const ciphertext = cake(Buffer.from(c.key, 'hex'), plaintext, Buffer.from(c.nonce, 'hex'));
        assert.equal(createHash('sha256').update(ciphertext).digest('hex'), c.ciphertext_sha256);
        Object.assign(c, { plaintext: plaintext.toString('hex'), ciphertext: ciphertext.toString('hex') });
    }
    return vectors;
}
