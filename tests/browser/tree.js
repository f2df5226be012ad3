// A real sealpostd for the browser's tests: own directory, own ports on loopback, a sink for what it sends, and
// users who send with the real client.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { startSink } from './sink.js';

export const BUILD = process.env.B ?? new URL('../../build', import.meta.url).pathname;

async function freePort() {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

/** A new user, enrolled; run() is their client. */
function enrol(file, config, url, name) {
    const address = `${name}@example.test`;
    const run = (args, input = '') => execFileSync(join(BUILD, 'sealpost'), args, {
        input, maxBuffer: 1 << 28, env: { PATH: process.env.PATH, SEALPOST_HOME: file(name), SEALPOST_CA: file('cert.pem') },
        stdio: ['pipe', 'pipe', 'pipe'],
    });
    const code = execFileSync(join(BUILD, 'sealpostctl'), ['--config', config, 'user', 'add', address]).toString().trim();
    run(['enroll', url, address, code]);
    return {
        address, run,
        /** Sends `message` as a link to each of `to`: { id, links } as the client prints them. */
        sendLink(message, to, more = []) {
            const [id, ...lines] = run(['send', '--link', '--print-links', ...more, ...to], message).toString().trim().split('\n');
            return { id, links: lines.map((line) => line.split(' ')[1]) };
        },
        status: (id) => JSON.parse(run(['status', id, '--json'])).recipients,
    };
}

/** Gives { port, url, key, cert, sink, user(name), events(link), flip(bytes), restart(), stop() }; the pair serves
 * the front (front.js) as well. */
export async function startTree() {
    const dir = mkdtempSync('/var/tmp/sealpost-browser-');
    const [smtp, web, sink] = [await freePort(), await freePort(), await startSink()];
    const file = (name) => join(dir, name);
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
        '-keyout', file('key.pem'), '-out', file('cert.pem'), '-subj', '/CN=mail.example.test',
        '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' });
    const root = process.getuid() === 0;
    writeFileSync(file('sealpost.conf'), `[appliance]
hostname = mail.example.test
domain = example.test
state = ${file('state')}
audit_log = ${file('log')}/audit.log
control = ${file('control.sock')}
shutdown_grace = 1s
${root ? 'uid_base = 59400' : ''}
[tls]
certificate = ${file('cert.pem')}
key = ${file('key.pem')}
[smtp]
listen = 127.0.0.1:${smtp}
[web]
listen = 127.0.0.1:${web}
url = https://127.0.0.1:${web}
max_connections_per_client = 1000
[relay]
mode = smarthost
smarthost = 127.0.0.1:${sink.port}
[storage]
map_size = 1G
slots = accept-cow
`);
    const args = ['--config', file('sealpost.conf'), ...(root ? [] : ['--user-mode'])];
    let child;
    const start = () => new Promise((resolve, reject) => {
        let said = '';
        child = spawn(join(BUILD, 'sealpostd'), args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
        child.stderr.on('data', (data) => {
            said += data;
            if (said.includes('sealpostd: ready')) resolve();
        });
        child.on('exit', () => reject(new Error(`the tree does not start:\n${said}`)));
    });
    const end = async () => {
        child.kill('SIGTERM');
        await once(child, 'exit');
    };
    await start();
    return {
        port: web, url: `https://127.0.0.1:${web}`, key: readFileSync(file('key.pem')), cert: readFileSync(file('cert.pem')), sink,
        user: (name) => enrol(file, file('sealpost.conf'), `https://127.0.0.1:${web}`, name),
        /** What the audit log says of a link (its id in base64url). */
        events: (link) => readFileSync(join(file('log'), 'audit.log'), 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line))
            .filter((e) => e.link === Buffer.from(link, 'base64url').toString('hex')),
        /** Stops the tree, turns one bit of what lies in the database and begins with `bytes`, starts it again. */
        async flip(bytes) {
            await end();
            let flips = 0;
            const data = join(file('state'), 'data');
            for (const name of readdirSync(data)) {
                const all = readFileSync(join(data, name));
                for (let at = all.indexOf(bytes); at >= 0; at = all.indexOf(bytes, at + 1)) {
                    all[at + bytes.length - 1] ^= 1;
                    flips++;
                }
                if (flips) writeFileSync(join(data, name), all);
            }
            await start();
            return flips;
        },
        async stop() {
            await end();
            sink.stop();
            rmSync(dir, { recursive: true, force: true });
        },
    };
}
