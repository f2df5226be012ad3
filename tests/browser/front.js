// In front of the real web role: passes everything on, and answers for the mails that a test made up, so
// that a test can also damage, delay and refuse what a right server would not. Speaks for envelope and
// pieces as docs/api.md has them.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';

export async function startFront(tree) {
    const front = {
        mails: new Map(), // link id: what sealLink() gave
        log: [],          // "METHOD path" of every request
        headers: [],      // and their headers
        answer: null,     // (path, request, response) => true: a test answers this one by itself
    };
    const agent = new https.Agent({ keepAlive: true });
    const pass = (request, response, path = request.url) => {
        const onward = https.request({
            host: '127.0.0.1', port: tree.port, method: request.method, path, headers: request.headers, agent,
            rejectUnauthorized: false,
        }, (answer) => {
            response.writeHead(answer.statusCode, answer.headers);
            answer.pipe(response);
        });
        onward.on('error', () => response.destroy());
        onward.end();
    };
    // The page is for links that are there: a made-up one has that of a real one, which is the same.
    const { links: [real] } = tree.user('front').sendLink('Subject: x\n\nx\n', ['nobody@elsewhere.example']);
    const realId = /\/m\/([\w-]{22})#/.exec(real)[1];
    const octets = (request, response, bytes, more = {}) => {
        const from = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
        const body = from ? bytes.subarray(Number(from[1])) : bytes;
        response.writeHead(from ? 206 : 200, {
            ...more,
            'Content-Type': 'application/octet-stream', 'Content-Length': body.length, 'Cache-Control': 'no-store',
            ...(from ? { 'Content-Range': `bytes ${from[1]}-${bytes.length - 1}/${bytes.length}` } : {}),
        }).end(body);
    };
    const server = https.createServer({ key: tree.key, cert: tree.cert }, (request, response) => {
        front.log.push(`${request.method} ${request.url}`);
        front.headers.push(request.headers);
        if (front.answer?.(request.url, request, response)) return;
        if (front.mails.has(/^\/m\/([\w-]{22})(?![\w/-])/.exec(request.url)?.[1])) return pass(request, response, request.url.replace(/^\/m\/[\w-]{22}/, `/m/${realId}`));
        const [, id, piece] = /^\/m\/([\w-]{22})\/(?:envelope|piece\/(\d+))$/.exec(request.url) ?? [];
        if (!id) return pass(request, response);
        const mail = front.mails.get(id);
        const gate = Buffer.from(request.headers.authorization?.replace(/^Sealpost-Gate /, '') ?? '', 'base64url');
        const known = mail && createHash('sha256').update(gate).digest()
            .equals(createHash('sha256').update(Buffer.from(mail.gate, 'base64url')).digest());
        const bytes = known ? (piece === undefined ? mail.reply : mail.pieces[Number(piece)]) : null;
        const facts = mail?.sender && piece === undefined ? { 'Sealpost-Sender': mail.sender } : {};
        if (bytes) octets(request, response, bytes, facts);
        else response.writeHead(known === false ? 403 : 404).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    front.url = `https://127.0.0.1:${server.address().port}`;
    front.add = (mail) => {
        front.mails.set(mail.id, mail);
        return `${front.url}/m/${mail.id}#${mail.fragment}`;
    };
    front.octets = octets;
    front.stop = async () => {
        server.closeAllConnections?.();
        agent.destroy();
        server.close();
        await once(server, 'close');
    };
    return front;
}
