// What the page asks of its server: the envelope and pieces of one link, as ciphertext. What comes back is
// hostile until sealed.js has opened it; here it is only bounded, and failures are told apart.

/** `kind`: gone (404), refused (401, 403), busy (429, 5xx), network. */
export class ServerError extends Error {
    constructor(kind) {
        super(kind);
        this.kind = kind;
    }
}

const KINDS = { 401: 'refused', 403: 'refused', 404: 'gone', 410: 'gone' };
const RETRIES = 3;

async function request(path, gate, headers, signal) {
    let response;
    try {
        response = await fetch(path, {
            headers: { Authorization: `Sealpost-Gate ${gate}`, ...headers },
            cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer', signal,
        });
    } catch (error) {
        throw error.name === 'AbortError' ? error : new ServerError('network');
    }
    if (!response.ok) throw new ServerError(KINDS[response.status] ?? 'busy');
    return response;
}

async function* bytesOf(response) {
    const reader = response.body.getReader();
    try {
        for (;;) {
            const { done, value } = await reader.read().catch((error) => {
                throw error.name === 'AbortError' ? error : new ServerError('network');
            });
            if (done) return;
            yield value;
        }
    } finally {
        reader.cancel().catch(() => {}); // whoever stopped early wants no more of it
    }
}

// No space, nothing invisible, nothing that turns the order of letters round: it is to be read by people.
const ADDRESS = /^[^\s\p{C}@]{1,240}@[^\s\p{C}@]{1,240}$/u;

/** The address for which the server vouches; '' where it names none that could be shown. */
function senderOf(response) {
    try {
        const address = decodeURIComponent(response.headers.get('Sealpost-Sender') ?? '');
        return ADDRESS.test(address) ? address : '';
    } catch { return ''; }
}

/** b32(envelope) || b32(box), no more of it than the format allows; and whom the server calls the sender. */
export async function fetchEnvelope(id, gate, signal) {
    const MAX = (1 << 20) + (1 << 16);
    const parts = [];
    let length = 0;
    const response = await request(`/m/${id}/envelope`, gate, {}, signal);
    for await (const part of bytesOf(response)) {
        length += part.length;
        if (length > MAX) break;
        parts.push(part);
    }
    return [new Uint8Array(await new Blob(parts).arrayBuffer()), senderOf(response)];
}

/**
 * The ciphertext of a piece as it comes. Where a connection breaks, the rest is asked for; that it is the
 * rest is for the piece's tags and hash to say.
 */
export async function* fetchPiece(id, gate, piece, signal) {
    let got = 0;
    for (let left = RETRIES; ; left--) {
        try {
            const headers = got ? { Range: `bytes=${got}-` } : {};
            const response = await request(`/m/${id}/piece/${piece.number}`, gate, headers, signal);
            if (got && response.status !== 206) throw new ServerError('network');
            for await (const part of bytesOf(response)) {
                got += part.length;
                yield part;
            }
            if (got >= piece.sealedLength) return;
            throw new ServerError('network'); // ended early, without saying so
        } catch (error) {
            if (error.kind !== 'network' || !left || !got) throw error;
        }
    }
}
