// How fast the link page opens and saves an attachment in Chromium, and how long its main thread is ever busy at a
// stretch: a real tree, a mail sent by the real client, the page as the web role serves it. One line of JSON.
//   B=build node bench/page.mjs [MB] [ROUNDS]
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { launch } from '../tests/browser/browser.js';
import { startTree } from '../tests/browser/tree.js';

const SIZE = Number(process.argv[2] ?? 10) * 1e6, ROUNDS = Number(process.argv[3] ?? 5);
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

function mail() {
    const attached = randomBytes(SIZE).toString('base64').replace(/(.{76})/g, '$1\r\n');
    return ['From: bench@example.test', 'To: reader@elsewhere.example', 'Subject: bench', 'MIME-Version: 1.0',
        'Content-Type: multipart/mixed; boundary=b', '', '--b', 'Content-Type: text/plain', '', 'x', '--b',
        'Content-Type: application/octet-stream', 'Content-Transfer-Encoding: base64',
        'Content-Disposition: attachment; filename=bench.bin', '', attached, '--b--', ''].join('\r\n');
}

/** In the page. Counts tasks of the main thread that took long (over 50 ms, by the browser's own account). */
function watch() {
    window.seen = { tasks: [], gap: 0 };
    new PerformanceObserver((list) => window.seen.tasks.push(...list.getEntries().map((e) => e.duration)))
        .observe({ type: 'longtask' });
    let last = performance.now();
    setInterval(() => {
        const now = performance.now();
        window.seen.gap = Math.max(window.seen.gap, now - last - 4); // how late a timer of 4 ms ever was
        last = now;
    }, 4);
}

/** In the page. Milliseconds that opening the piece took, its ciphertext being at hand. */
async function decrypt([base, id, fragment]) {
    const sealed = await import(`${base}/sealed.js`), server = await import(`${base}/server.js`);
    const link = sealed.parseLink(`/m/${id}`, `#${fragment}`), gate = sealed.b64u(await sealed.gateOf(link.password));
    const [reply] = await server.fetchEnvelope(id, gate), opened = await sealed.openMail(link, reply);
    const piece = opened.pieces[1], parts = [];
    for await (const part of server.fetchPiece(id, gate, piece)) parts.push(part);
    await new Promise((resolve) => { setTimeout(resolve, 200); });
    Object.assign(window.seen, { tasks: [], gap: 0 });
    const began = performance.now();
    async function* source() { yield* parts; }
    let bytes = 0;
    for await (const chunk of sealed.openPiece(piece, source())) bytes += chunk.length;
    const took = performance.now() - began;
    if (bytes !== piece.length) throw new Error('not all of it');
    await new Promise((resolve) => { setTimeout(resolve, 100); });
    return { took, bytes, tasks: window.seen.tasks, gap: window.seen.gap };
}

async function save(page) {
    await page.evaluate(() => Object.assign(window.seen, { tasks: [], gap: 0 }));
    const began = performance.now();
    const [file] = await Promise.all([page.waitForEvent('download'), page.locator('#list button').first().click()]);
    const took = performance.now() - began, path = await file.path();
    if (statSync(path).size !== SIZE) throw new Error('not what was attached');
    await file.delete();
    return { took, ...await page.evaluate(() => window.seen) };
}

const tree = await startTree(), browser = await launch();
try {
    const { links: [url] } = tree.user('bench').sendLink(mail(), ['reader@elsewhere.example']);
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    await page.addInitScript(watch);
    await page.addInitScript(() => { delete window.showSaveFilePicker; });
    await page.goto(url);
    await page.click('#open');
    await page.waitForSelector('#mail:not([hidden])');
    const base = await page.evaluate(() => /\/page\/\w+/.exec(document.querySelector('script[type=module]').src)[0]);
    const [, id, fragment] = /\/m\/([\w-]+)#(.*)$/.exec(url);
    const opened = [], saved = [];
    for (let i = -1; i < ROUNDS; i++) { // the first is a warm-up
        const one = await page.evaluate(decrypt, [base, id, fragment]), two = await save(page);
        if (i < 0) continue;
        opened.push(one);
        saved.push(two);
    }
    const rate = (rounds, bytes) => Math.round(bytes / 1e3 / median(rounds.map((r) => r.took)) * 10) / 10;
    console.log(JSON.stringify({
        bytes: SIZE, rounds: ROUNDS, chromium: browser.version(),
        decrypt_mb_per_second: rate(opened, opened[0].bytes), save_mb_per_second: rate(saved, SIZE),
        long_tasks: [...opened, ...saved].flatMap((r) => r.tasks).length,
        longest_block_ms: Math.round(Math.max(...[...opened, ...saved].map((r) => r.gap))),
        decrypt_ms: opened.map((r) => Math.round(r.took)), save_ms: saved.map((r) => Math.round(r.took)),
    }));
} finally {
    await browser.close();
    await tree.stop();
}
