// Stands for the outside world's mail server: takes all mail that the appliance sends to it, and keeps it.
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Gives { port, mails: [{ to, text }], mailTo(address), stop() }. */
export async function startSink() {
    const mails = [], sockets = new Set();
    const server = createServer((socket) => {
        let held = '', to = null, lines = null; // lines: of a mail that is coming in
        const say = (text) => socket.write(`${text}\r\n`);
        const take = (line) => {
            if (lines && line !== '.') return void lines.push(line.replace(/^\./, ''));
            if (lines) {
                mails.push({ to, text: lines.join('\r\n') });
                lines = null;
                return say('250 kept');
            }
            const verb = line.slice(0, 4).toUpperCase();
            if (verb === 'RCPT') [, to] = /<(.*?)>/.exec(line);
            if (verb === 'DATA') lines = [];
            say({ DATA: '354 go on', QUIT: '221 bye', EHLO: '250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8' }[verb] ?? '250 ok');
        };
        sockets.add(socket);
        say('220 sink');
        socket.setEncoding('utf8').on('error', () => {}).on('close', () => sockets.delete(socket)).on('data', (data) => {
            const whole = (held + data).split('\r\n');
            held = whole.pop();
            whole.forEach(take);
        });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
        port: server.address().port, mails,
        async mailTo(address, seconds = 60) {
            for (const end = Date.now() + seconds * 1000; Date.now() < end; await new Promise((go) => { setTimeout(go, 50); })) {
                const mail = mails.find((m) => m.to === address);
                if (mail) return mail.text;
            }
            throw new Error(`no mail came for ${address}`);
        },
        stop() {
            for (const socket of sockets) socket.destroy();
            server.close();
        },
    };
}
