// SHA-256 (FIPS 180-4) for a stream, which WebCrypto does not offer: a piece's hash is over the whole of its
// ciphertext, and a piece may be larger than what a page should keep in memory. What goes in is ciphertext, which
// the server has too, and what comes out is compared with a hash: no secret passes, so that plain JavaScript, whose
// timing nobody controls, may do it. Tests hold it against WebCrypto's.

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((p) => n % p)) PRIMES.push(n);
const root = (p, k) => { // the first 32 bits of the fraction of p's k-th root, in whole numbers
    const target = BigInt(p) << BigInt(32 * k);
    let low = 0n;
    for (let bit = 1n << 36n; bit; bit >>= 1n) if ((low + bit) ** BigInt(k) <= target) low += bit;
    return Number(low & 0xffffffffn) | 0;
};
const K = Int32Array.from(PRIMES, (p) => root(p, 3));

export class Sha256 {
    constructor() {
        this.h = Int32Array.from(PRIMES.slice(0, 8), (p) => root(p, 2));
        this.w = new Int32Array(64);
        this.block = new Uint8Array(64);
        this.bytes = 0;
    }
    update(data) {
        let at = 0, used = this.bytes % 64;
        this.bytes += data.length;
        if (used + data.length >= 64) {
            if (used) {
                at = 64 - used;
                this.block.set(data.subarray(0, at), used);
                this.round(this.block, 0);
            }
            for (; at + 64 <= data.length; at += 64) this.round(data, at);
            used = 0;
        }
        this.block.set(data.subarray(at), used);
        return this;
    }
    digest() {
        const bits = new DataView(new ArrayBuffer(8)), out = new DataView(new ArrayBuffer(32));
        bits.setBigUint64(0, BigInt(this.bytes) * 8n);
        this.update(Uint8Array.of(0x80));
        this.update(new Uint8Array((120 - this.bytes % 64) % 64)).update(new Uint8Array(bits.buffer));
        this.h.forEach((word, i) => out.setInt32(4 * i, word));
        return new Uint8Array(out.buffer);
    }
    round(d, at) {
        const w = this.w;
        for (let i = 0; i < 16; i++, at += 4) w[i] = d[at] << 24 | d[at + 1] << 16 | d[at + 2] << 8 | d[at + 3];
        for (let i = 16; i < 64; i++) {
            const x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
                + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10) | 0;
        }
        const s = this.h;
        let a = s[0], b = s[1], c = s[2], e0 = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        for (let i = 0; i < 64; i++) {
            const t = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7))
                + (e & f ^ ~e & g) + K[i] + w[i] | 0;
            const u = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c) | 0;
            h = g; g = f; f = e; e = e0 + t | 0; e0 = c; c = b; b = a; a = t + u | 0;
        }
        s[0] += a; s[1] += b; s[2] += c; s[3] += e0; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
    }
}
