// The page's decoders (page/sealed.js) beside the appliance's (fuzz/judge.c): whatever the bytes, both
// take them or both refuse them, and a refusal is a SealedError and nothing else. Numbers above 2^53,
// which the page refuses for want of numbers that large, are not compared.
//   node fuzz/page.mjs JUDGE CORPUS SECONDS      (0: the seeds alone)
import { spawn } from 'node:child_process';
import { randomInt, webcrypto } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

globalThis.crypto ??= webcrypto; // Node 18
const { SealedError, decodeEnvelope, decodeBox, decodeManifest } = await import('../page/sealed.js');

const DECODERS = { E: decodeEnvelope, B: decodeBox, M: decodeManifest };
const BATCH = 500, KEPT_MAX = 2000, LENGTH_MAX = 8192;
const [, , judgePath, corpus, seconds] = process.argv;

function seeds() {
    const read = (dir) => readdirSync(join(corpus, dir)).map((name) => readFileSync(join(corpus, dir, name)));
    const tagged = read('envelope').filter((b) => b.length > 0); // its first byte says which of the two
    return [...tagged.map((b) => ({ kind: b[0] === 0x45 ? 'E' : 'B', bytes: b.subarray(1) })),
        ...read('manifest').map((bytes) => ({ kind: 'M', bytes }))];
}

// ---- The two verdicts ------------------------------------------------------------------------

function page({ kind, bytes }) {
    try {
        DECODERS[kind](Uint8Array.from(bytes));
        return true;
    } catch (error) {
        if (!(error instanceof SealedError)) throw error;
        return error.message.includes('number out of range') ? undefined : false;
    }
}

const judge = spawn(judgePath, { stdio: ['pipe', 'pipe', 'inherit'] });
judge.stdin.on('error', () => {}); // its end is told below
judge.on('exit', (code, signal) => { if (code !== 0) report(`the judge ended: ${signal ?? code}`); });
const answers = judge.stdout[Symbol.asyncIterator]();

async function appliance(inputs) {
    for (const { kind, bytes } of inputs) {
        const head = Buffer.alloc(5, kind);
        head.writeUInt32BE(bytes.length, 1);
        judge.stdin.write(Buffer.concat([head, bytes]));
    }
    let verdicts = '';
    while (verdicts.length < inputs.length) {
        const { value, done } = await answers.next();
        if (done) report('the judge said too little');
        verdicts += value.toString('latin1');
    }
    return [...verdicts].map((v) => v === '1');
}

function report(why, input) {
    console.error(`page: ${why}`);
    if (input) {
        writeFileSync('page-finding', Buffer.concat([Buffer.from(input.kind), input.bytes]));
        console.error(`page: kind ${input.kind}, ${input.bytes.length} bytes, written to ./page-finding`);
    }
    process.exit(1);
}

// ---- Mutations -------------------------------------------------------------------------------

const EDGES = [0, 1, 2, 3, 0x0a, 0x0d, 0x1f, 0x20, 0x2e, 0x2f, 0x5c, 0x7f, 0x80, 0x9f, 0xc2, 0xe2, 0xed, 0xef, 0xf4, 0xff];
const any = (list) => list[randomInt(list.length)];
const cut = (b, at, gone, put = Buffer.alloc(0)) => Buffer.concat([b.subarray(0, at), put, b.subarray(at + gone)]);
const put = (b, at, byte) => { const out = Buffer.from(b); if (at < out.length) out[at] = byte; return out; };
const MUTATIONS = [
    (b, at) => put(b, at, (b[at] ?? 0) ^ (1 << randomInt(8))),
    (b, at) => put(b, at, any(EDGES)),
    (b, at) => put(b, at, ((b[at] ?? 0) + any([1, -1, 16, -16]) + 256) & 255),
    (b, at) => cut(b, at, 1 + randomInt(4)),
    (b, at) => cut(b, at, 0, Buffer.from([any(EDGES)])),
    (b, at) => cut(b, at, randomInt(3), Buffer.from(Array.from({ length: 1 + randomInt(4) }, () => any(EDGES)))),
    (b, at) => cut(b, randomInt(b.length + 1), 0, b.subarray(at, at + 1 + randomInt(64))),
    (b) => b.subarray(0, randomInt(b.length + 1)),
];

function mutate({ kind, bytes }, other) {
    for (let n = 1 + randomInt(3); n > 0; n--)
        bytes = any(MUTATIONS)(bytes, randomInt(bytes.length + 1));
    if (randomInt(8) === 0)
        bytes = Buffer.concat([bytes.subarray(0, randomInt(bytes.length + 1)), other.bytes.subarray(randomInt(other.bytes.length + 1))]);
    return { kind, bytes: bytes.subarray(0, LENGTH_MAX) };
}

// ---- The run ---------------------------------------------------------------------------------

async function compare(inputs) {
    const verdicts = await appliance(inputs);
    inputs.forEach((input, i) => {
        let mine;
        try { mine = page(input); } catch (error) { report(`not a SealedError: ${error.stack}`, input); }
        if (mine !== undefined && mine !== verdicts[i]) report(`the page ${mine ? 'takes' : 'refuses'} what the appliance does not`, input);
    });
    return inputs.filter((_, i) => verdicts[i]);
}

const first = seeds(), end = Date.now() + 1000 * Number(seconds);
const kept = Object.fromEntries(Object.keys(DECODERS).map((kind) => [kind, first.filter((s) => s.kind === kind)]));
let runs = first.length, taken = (await compare(first)).length;

while (Date.now() < end) {
    const list = any(Object.values(kept)); // all kinds alike: mutants of boxes are taken more often
    const good = await compare(Array.from({ length: BATCH }, () => mutate(any(list), any(list))));
    for (const input of good)
        if (list.length < KEPT_MAX) list.push(input);
        else list[randomInt(KEPT_MAX)] = input;
    runs += BATCH;
    taken += good.length;
}
console.log(`page: ${runs} inputs, ${taken} taken by both`);
judge.stdin.end();
