// The page is built from the tree and the lock file, and from nothing else: whoever builds it gets its bytes.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { BUILD } from './tree.js';

const PAGE = new URL('../../page/', import.meta.url).pathname;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Builds a copy of page/, its files made in this order, and gives { file: sha256 } of what came of it. */
function build(dir, order, env, { mode, time }) {
    const page = join(dir, 'page'), out = join(dir, 'out', 'deeper');
    mkdirSync(page, { recursive: true });
    mkdirSync(out, { recursive: true });
    for (const file of readdirSync(PAGE).sort(order)) {
        copyFileSync(join(PAGE, file), join(page, file));
        chmodSync(join(page, file), mode);
        utimesSync(join(page, file), time, time);
    }
    symlinkSync(resolve(BUILD, 'npm'), join(out, 'npm'));
    execFileSync(process.execPath, [join(page, 'bundle.mjs'), out], { cwd: dirname(dir), env: { PATH: process.env.PATH, ...env } });
    return Object.fromEntries(['page', 'gen'].flatMap((folder) => readdirSync(join(out, folder))
        .map((file) => [`${folder}/${file}`, sha256(readFileSync(join(out, folder, file)))])).sort());
}

test('built twice, elsewhere, in another order, at another time, in another place of the world: the same bytes', () => {
    const dir = mkdtempSync('/var/tmp/sealpost-build-');
    try {
        const one = build(join(dir, 'a'), (a, b) => (a < b ? -1 : 1), { TZ: 'UTC', LANG: 'C' }, { mode: 0o644, time: 1 });
        const two = build(join(dir, 'a longer näme', 'b'), (a, b) => (a < b ? 1 : -1),
            { TZ: 'Pacific/Kiritimati', LANG: 'tr_TR.UTF-8', LC_ALL: 'tr_TR.UTF-8', SOURCE_DATE_EPOCH: '1', HOME: '/nonexistent', USER: 'x' },
            { mode: 0o600, time: 2e9 });
        assert.ok(Object.keys(one).length > 12);
        assert.deepEqual(two, one);
        for (const [file, sum] of Object.entries(one)) // and what the programs were built with
            assert.equal(sha256(readFileSync(join(BUILD, file))), sum, file);
        assert.ok(!/\/var\/tmp|\/tmp\//.test(readFileSync(join(BUILD, 'page', 'vendor.js'), 'utf8')));
    } finally { rmSync(dir, { recursive: true, force: true }); }
});

test('every script, style and preload of the documents names its hash, and the names are right', () => {
    const page = join(BUILD, 'page'), name = readFileSync(join(page, 'NAME'), 'utf8').trim();
    const sri = (file) => `sha256-${createHash('sha256').update(readFileSync(join(page, file))).digest('base64')}`;
    for (const document of ['index.html', 'gone.html', 'busy.html']) {
        const html = readFileSync(join(page, document), 'utf8');
        const loads = html.match(/<(?:script|link)\b[^>]*>/g).filter((tag) => !/rel="icon"|type="importmap"/.test(tag));
        assert.ok(loads.length >= 1);
        for (const tag of loads) {
            const [, file] = new RegExp(`(?:src|href)="/page/${name}/([\\w.]+)"`).exec(tag);
            assert.equal(/ integrity="([^"]+)"/.exec(tag)?.[1], sri(file), `${document}: ${tag}`);
        }
        assert.ok(!/@\w|<style|\bon\w+=/.test(html), document);
    }
    const [, map] = /<script type="importmap">(.*)<\/script>/.exec(readFileSync(join(page, 'index.html'), 'utf8'));
    const scripts = readdirSync(page).filter((file) => file.endsWith('.js'));
    assert.deepEqual(JSON.parse(map), { integrity: Object.fromEntries(scripts.sort().map((file) => [`/page/${name}/${file}`, sri(file)])) });
});
