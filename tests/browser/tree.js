// A real sealpostd for the browser's tests: own directory, own ports on loopback.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

export const BUILD = process.env.B ?? new URL('../../build', import.meta.url).pathname;

async function freePort() {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

/** Gives { port, key, cert, stop() }; the pair serves the front (front.js) as well. */
export async function startTree() {
    const dir = mkdtempSync('/var/tmp/sealpost-browser-');
    const [smtp, web] = [await freePort(), await freePort()];
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
[storage]
map_size = 1G
`);
    const args = ['--config', file('sealpost.conf'), ...(root ? [] : ['--user-mode'])];
    const child = spawn(join(BUILD, 'sealpostd'), args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    await new Promise((resolve, reject) => {
        child.stderr.on('data', (data) => {
            said += data;
            if (said.includes('sealpostd: ready')) resolve();
        });
        child.on('exit', () => reject(new Error(`the tree does not start:\n${said}`)));
    });
    return {
        port: web, key: readFileSync(file('key.pem')), cert: readFileSync(file('cert.pem')),
        async stop() {
            child.kill('SIGTERM');
            await once(child, 'exit');
            rmSync(dir, { recursive: true, force: true });
        },
    };
}
