// page/sealed.js in Node: the vectors, and that nothing that was changed is ever accepted.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash, randomBytes, webcrypto } from 'node:crypto';
import { cases, dribble } from './vectors.js';
import { loadVectors } from './data.js';
import { cake, sealLink } from './seal.js';

globalThis.crypto ??= webcrypto; // Node 18
const sealed = await import('../../page/sealed.js');

for (const [name, run] of cases(sealed, loadVectors())) test(name, run);

const step = (...steps) => (error) => error instanceof sealed.SealedError && steps.includes(error.step);
const open = async (s, reply) => sealed.openMail(sealed.parseLink(`/m/${s.id}`, `#${s.fragment}`), reply);
const body = Buffer.from('From: a@example.test\r\nSubject: s\r\n\r\nhello\r\n');
const part = { bytes: Buffer.from('QUJD'), mediaType: 'image/png', fileName: 'a.png', spliceAt: 9 };

async function drain(piece, source) {
    const parts = [];
    for await (const chunk of sealed.openPiece(piece, source)) parts.push(chunk);
    return Buffer.concat(parts);
}

test('a signed mail opens; what was signed by another key does not', async () => {
    const s = sealLink({ body, parts: [part], signed: true });
    const mail = await open(s, s.reply);
    assert.equal(mail.signature, 'good');
    assert.equal(mail.expires, 4102444800);
    assert.deepEqual(await drain(mail.pieces[1], dribble(s.pieces[1])), part.bytes);
    const bad = sealLink({ body, signed: true, tamper: { signature: true } });
    await assert.rejects(open(bad, bad.reply), step('box'));
});

test('any flipped bit of envelope or box is refused', async () => {
    for (const signed of [false, true]) {
        const s = sealLink({ body, parts: [part], signed });
        for (let bit = 0; bit < s.reply.length * 8; bit++) {
            const reply = Uint8Array.from(s.reply);
            reply[bit >> 3] ^= 1 << (bit & 7);
            await assert.rejects(open(s, reply), (e) => e instanceof sealed.SealedError, `bit ${bit}`);
        }
    }
});

test('any flipped bit of a piece is refused, and so is any cut', async () => {
    const s = sealLink({ body, parts: [part] });
    const mail = await open(s, s.reply);
    for (const [i, piece] of mail.pieces.entries()) {
        for (let bit = 0; bit < s.pieces[i].length * 8; bit++) {
            const bad = Uint8Array.from(s.pieces[i]);
            bad[bit >> 3] ^= 1 << (bit & 7);
            await assert.rejects(drain(piece, dribble(bad)), step('body', 'piece'), `bit ${bit}`);
        }
        for (let n = 0; n < s.pieces[i].length; n++)
            await assert.rejects(drain(piece, dribble(s.pieces[i].subarray(0, n))), step('body', 'piece'));
        await assert.rejects(drain(piece, dribble(Buffer.concat([s.pieces[i], Buffer.alloc(1)]))), step('body', 'piece'));
    }
});

test('a box or an envelope cut anywhere, or with more behind, is refused', async () => {
    const s = sealLink({ body });
    for (let n = 0; n < s.reply.length; n++)
        await assert.rejects(open(s, s.reply.subarray(0, n)), (e) => e instanceof sealed.SealedError);
    await assert.rejects(open(s, Buffer.concat([s.reply, Buffer.alloc(1)])), step('envelope'));
});

test('random mutations of a larger piece: no chunk is wrong, and none is good to the end', async () => {
    const bytes = randomBytes(5 * 16384 + 100);
    const s = sealLink({ body: bytes });
    const [piece] = (await open(s, s.reply)).pieces;
    for (let round = 0; round < 300; round++) {
        const bad = Uint8Array.from(s.pieces[0]), at = Math.floor(Math.random() * bad.length);
        if (round % 3 === 0) bad[at] ^= 1 << (round % 8);
        else if (round % 3 === 1) bad.copyWithin(56, 56 + 16400 * (1 + round % 4), 56 + 16400 * (2 + round % 4));
        else bad.set(randomBytes(40), Math.min(at, bad.length - 40));
        const got = [];
        await assert.rejects(async () => {
            for await (const chunk of sealed.openPiece(piece, dribble(bad))) got.push(chunk);
        }, step('body'));
        const seen = Buffer.concat(got); // what came before the damage is what was sealed
        assert.deepEqual(seen, bytes.subarray(0, seen.length));
        assert.ok(seen.length < bytes.length);
    }
});

test('a piece sealed under the right key, but not the one that the manifest names', async () => {
    const s = sealLink({ body, parts: [part], tamper: { hash: 1 } });
    const mail = await open(s, s.reply);
    await assert.rejects(drain(mail.pieces[1], dribble(s.pieces[1])), step('piece'));
    const got = []; // the last chunk is held back until the hash is right: of this one nothing came out
    await assert.rejects(async () => { for await (const c of sealed.openPiece(mail.pieces[1], dribble(s.pieces[1]))) got.push(c); });
    assert.equal(got.length, 0);
});

test('a piece too large to be kept and one that is not are judged alike', async () => {
    async function* parts(bytes) { for (let at = 0; at < bytes.length; at += 1000003) yield bytes.subarray(at, at + 1000003); }
    for (const size of [(1 << 24) - 30000, (1 << 24) + 30000]) { // the bound is on its ciphertext
        const large = randomBytes(size);
        const s = sealLink({ body: large }), lying = sealLink({ body: large, tamper: { hash: 0 } });
        const [piece] = (await open(s, s.reply)).pieces, [named] = (await open(lying, lying.reply)).pieces;
        assert.ok((await drain(piece, parts(s.pieces[0]))).equals(large));
        for (const at of [0, 40, 70, 600000, size, s.pieces[0].length - 1]) {
            const bad = Uint8Array.from(s.pieces[0]);
            bad[at] ^= 4;
            await assert.rejects(drain(piece, parts(bad)), step('body'), `${size}: ${at}`);
        }
        await assert.rejects(drain(piece, parts(s.pieces[0].subarray(0, -1))), step('body'));
        await assert.rejects(drain(piece, parts(Buffer.concat([s.pieces[0], Buffer.alloc(1)]))), step('body'));
        const got = [];
        await assert.rejects(async () => {
            for await (const chunk of sealed.openPiece(named, parts(lying.pieces[0]))) got.push(chunk);
        }, step('body'));
        assert.ok(Buffer.concat(got).length < size); // the last chunk was held back
    }
});

test('a manifest that disagrees with the envelope', async () => {
    const s = sealLink({ body, parts: [part], tamper: { length: 1 } });
    await assert.rejects(open(s, s.reply), step('manifest'));
});

test('added headers that would end the header, or are none', async () => {
    for (const added of ['no field\r\n', 'A: b\n', 'A: b\r\n\r\n', ' folded: first\r\n', 'A: b\r\n  \r\n', 'A: b', 'A: \0\r\n',
        `A: b\r\n${' '.repeat(200000)}`]) {
        const s = sealLink({ body, added });
        await assert.rejects(open(s, s.reply), step('manifest'), JSON.stringify(added.slice(0, 20)));
    }
    const s = sealLink({ body, added: 'A: b\r\n\tfolded\r\nB:\r\n' });
    assert.equal((await open(s, s.reply)).added.length, 19);
});

test('names of a manifest that could leave a directory, media types that are none', async () => {
    for (const bad of [{ fileName: '..' }, { fileName: 'a/b' }, { fileName: 'a\\b' }, { fileName: 'a\nb' },
        { fileName: Buffer.from([0xff]) }, { mediaType: 'Image/png' }, { mediaType: 'image' }, { mediaType: '' },
        { fileName: 'x'.repeat(1025) }]) {
        const s = sealLink({ body, parts: [{ ...part, ...bad }] });
        await assert.rejects(open(s, s.reply), step('manifest'), JSON.stringify(bad).slice(0, 50));
    }
});

test('links: taken apart, mended, refused', async () => {
    const s = sealLink({ body });
    for (const [path, hash, exposed] of [[`/m/${s.id}`, `#${s.fragment}`, false],
        [`/m/${s.id}%23${s.fragment}`, '', true], [`/m/${s.id}%2523${s.fragment}`, '', true]]) {
        const link = sealed.parseLink(path, hash);
        assert.equal(link.exposed, exposed);
        assert.equal(link.id, s.id);
        await sealed.openMail(link, s.reply);
    }
    const [password, digest] = s.fragment.split('.');
    const bad = [['/', `#${s.fragment}`], [`/m/${s.id}`, ''], [`/m/${s.id}`, `#${password}`], [`/m/${s.id}`, `#${password}.`],
        [`/m/${s.id}`, `#${s.fragment.slice(0, -1)}`], [`/m/${s.id}`, `#${s.fragment}.`], [`/m/${s.id}`, `#${s.fragment}A`],
        [`/m/${s.id.slice(1)}`, `#${s.fragment}`], [`/m/${s.id}/`, `#${s.fragment}`], [`/m/${s.id}`, `#${digest}${password}`],
        [`/m/${s.id}%24${s.fragment}`, ''], [`/m/${s.id}`, `#${password}=.${digest}`], [`/m/${s.id}`, `#${s.fragment} `],
        [`/m/${s.id}`, `#${password.slice(0, -1)}\u00e9.${digest}`],
        [`/m/${s.id}`, `#${'_'.repeat(43)}.${digest}`]]; // stray bits in the last digit
    for (const [path, hash] of bad) assert.throws(() => sealed.parseLink(path, hash), step('link'), path + hash);
});

test('another password, another digest, another link', async () => {
    const [a, b] = [sealLink({ body }), sealLink({ body })];
    const [pa, da] = a.fragment.split('.'), [pb, db] = b.fragment.split('.');
    await assert.rejects(open({ id: a.id, fragment: `${pb}.${da}` }, a.reply), step('box'));
    await assert.rejects(open({ id: a.id, fragment: `${pa}.${db}` }, a.reply), step('digest'));
    await assert.rejects(open(a, b.reply), step('digest'));
    await assert.rejects(open({ id: b.id, fragment: a.fragment }, a.reply), step('box'));
});

test('SHA-256 of a stream is SHA-256', () => {
    for (let n = 0; n < 400; n++) {
        const data = randomBytes(n), cut = Math.floor(Math.random() * n);
        const hash = new sealed.Sha256().update(data.subarray(0, cut)).update(data.subarray(cut));
        assert.equal(Buffer.from(hash.digest()).toString('hex'), createHash('sha256').update(data).digest('hex'));
    }
    const large = randomBytes(3000001), hash = new sealed.Sha256();
    for (let at = 0; at < large.length; at += 70001) hash.update(large.subarray(at, at + 70001));
    assert.equal(Buffer.from(hash.digest()).toString('hex'), createHash('sha256').update(large).digest('hex'));
});

test('a reader that stops half-way hangs up', async () => {
    let closed = false;
    const key = randomBytes(32), ciphertext = cake(key, randomBytes(100000));
    async function* source() { try { yield* dribble(ciphertext); } finally { closed = true; } }
    for await (const chunk of sealed.openCake(key, ciphertext.length, source(), 'piece')) {
        assert.equal(chunk.length, 16384);
        break;
    }
    assert.ok(closed);
});
