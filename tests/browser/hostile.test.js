// A mail's sender is a stranger: whatever their HTML holds, nothing runs and nothing leaves. A listener of
// our own stands for "the world": a connection to it, of whatever kind, is a failure.
import test, { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { deposit, done, read, world } from './harness.js';
import { MARKUP, STYLES } from './leaks.js';
import { crlf, html, withFiles } from './mails.js';
import { strings } from '../../page/strings.js';

const outside = { server: null, connections: 0, said: '' };
const scratch = mkdtempSync('/var/tmp/sealpost-netlog-'), netlog = join(scratch, 'netlog.json');
let names = 0;

// The browser writes down what its network stack does: lookups, sockets, all.
world.flags.push(`--log-net-log=${netlog}`);

before(async () => {
    outside.server = createServer((socket) => {
        outside.connections++;
        socket.on('data', (data) => { outside.said += data; socket.destroy(); }).on('error', () => {});
        setTimeout(() => socket.destroy(), 100);
    }).listen(0, '127.0.0.1');
    await once(outside.server, 'listening');
    outside.url = `http://127.0.0.1:${outside.server.address().port}/leak`;
});
after(() => {
    outside.server.close();
    rmSync(scratch, { recursive: true, force: true });
});

/** Opens the mail, gives the frame's document some time to do harm, and looks at what happened. */
async function harmless(markup, look) {
    outside.connections = 0;
    const page = await read(deposit(html(markup.replaceAll('OUT', outside.url))).url);
    await page.waitForSelector('#frame:not([hidden])');
    await page.waitForTimeout(120);
    assert.equal(await page.evaluate(() => window.harm), undefined, markup);
    assert.equal(outside.connections, 0, markup);
    assert.equal(page.context().pages().length, 1);
    assert.match(page.url(), /\/m\/[\w-]{22}$/);
    const frame = page.frames().find((f) => /frame\.html$/.test(f.url()));
    assert.ok(frame, markup);
    await look?.(page, frame);
    await done(page);
}

const SCRIPTS = [
    '<script>parent.harm = 1</script>', '<script src="OUT"></script>', '<img src=x onerror="parent.harm = 1">',
    '<svg onload="parent.harm = 1"><script>parent.harm = 1</script></svg>', '<svg><a xlink:href="javascript:parent.harm=1">x</a></svg>',
    '<body onload="parent.harm = 1">x', '<iframe srcdoc="<script>parent.parent.harm=1</script>"></iframe>',
    '<iframe src="javascript:parent.harm=1"></iframe>', '<object data="OUT"></object><embed src="OUT">',
    '<math><mtext></form><form><mglyph><style></math><img src onerror="parent.harm = 1">',
    '<noscript><p title="</noscript><img src=x onerror=parent.harm=1>">', '<template><img src=x onerror="parent.harm=1"></template>',
    '<details open ontoggle="parent.harm=1">x</details>', '<input autofocus onfocus="parent.harm=1">',
    '<marquee onstart="parent.harm=1">x</marquee>', '<video><source onerror="parent.harm=1"></video>',
    '<style>@keyframes k{}</style><b style="animation:k 1s" onanimationstart="parent.harm=1">x</b>',
    '<a id=x href="javascript:parent.harm=1">x</a>', '<form id=a><button formaction="javascript:parent.harm=1">x</button></form>',
    '<div popover id=p onbeforetoggle="parent.harm=1">x</div>', '<base href="OUT"><script src="/a.js"></script>',
    '<link rel="modulepreload" href="OUT"><script type="module">parent.harm=1</script>',
];

test('no script runs', async () => {
    for (const markup of SCRIPTS) await harmless(`<p>before</p>${markup}<p>after</p>`, async (_, frame) => {
        assert.ok((await frame.evaluate(() => document.body.textContent)).includes('before'), markup);
        assert.equal(await frame.evaluate(() => document.querySelectorAll('script, iframe, object, embed, form, svg, math, base, link').length), 0);
        assert.deepEqual(await frame.evaluate(() => [...document.body.querySelectorAll('*')].flatMap((e) => [...e.attributes])
            .map((a) => a.name).filter((n) => n.startsWith('on'))), []);
    });
});

test('no request leaves, and no name is looked up', async () => {
    // Both, for a name shows itself in a lookup, and an address in a connection.
    for (const markup of [...MARKUP, ...STYLES]) await harmless(markup + markup.replaceAll('OUT', `http://h${++names}.leak.test/x`), async (page) => {
        const { x, y, height } = await page.locator('#frame').boundingBox();
        for (const part of [0.1, 0.5, 0.9]) await page.mouse.move(x + 40, y + height * part);
        await page.emulateMedia({ media: 'print' });
        await page.emulateMedia({ media: null });
        assert.equal(outside.connections, 0, markup);
    });
});

test('the frame\'s own policy holds where the cleaning would have failed', async () => {
    outside.said = '';
    const page = await read(deposit(html('<p>x</p>')).url);
    await page.waitForSelector('#frame:not([hidden])');
    await page.evaluate((out) => { // everything past DOMPurify, straight into the document
        const doc = document.getElementById('frame').contentDocument;
        const add = (tag, attributes, text = '') => {
            const e = doc.createElement(tag);
            for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
            if (text) e.append(text);
            doc.body.append(e);
            return e;
        };
        add('img', { src: out, onerror: 'parent.harm = 1' });
        add('style', {}, `@import "${out}"; body { background: url(${out}) }`);
        add('link', { rel: 'stylesheet', href: out });
        add('iframe', { src: out }); // Chromium connects before it asks the policy, and then says nothing
        add('object', { data: out });
        add('video', { src: out, autoplay: '' });
        add('meta', { 'http-equiv': 'refresh', content: `0;url=${out}` });
        for (const build of [() => add('form', { action: out, method: 'post' }).submit(), () => add('a', { href: out }).click()])
            try { build(); } catch { /* refused at once is as good */ }
    }, outside.url);
    await page.waitForTimeout(300);
    assert.equal(await page.evaluate(() => window.harm), undefined);
    assert.equal(outside.said, '');
    await done(page);
});

test('the page takes no markup: headers and names are text', async () => {
    const evil = '<img src=x onerror="window.harm=1">';
    const { body } = html('<p>x</p>', `Cc: "${evil.replaceAll('"', '')}" <a@b.example>\n`);
    const parts = [{ bytes: Buffer.from('x'), mediaType: 'text/plain', fileName: `${evil.replaceAll('/', '')}\u202Efdp.exe`, spliceAt: body.length }];
    const page = await read(deposit({ body: Buffer.concat([crlf(`Subject: ${evil}\n`), body]),
        parts: [{ ...parts[0], spliceAt: body.length }] }).url);
    assert.ok((await page.textContent('#subject')).includes('<img'));
    assert.equal(await page.locator('#mail img').count(), 0);
    assert.ok(!(await page.textContent('#list')).includes('\u202E'));
    assert.equal(await page.evaluate(() => window.harm), undefined);
    await done(page);
});

test('links open elsewhere, without a word of where they were', async () => {
    await harmless('<a href="https://a.example/x">a</a> <a href="#x">b</a> <a href="/v1/info">c</a> <a href="data:text/html,x">d</a>'
        + '<area href="OUT"><a href=" JaVaScRiPt:parent.harm=1">e</a> <a href="mailto:x@example.org" target="_self">f</a>', async (_, frame) => {
        const away = ['_blank', 'noopener noreferrer nofollow'];
        assert.deepEqual(await frame.evaluate(() => [...document.querySelectorAll('a')].map((a) => [a.getAttribute('href'), a.target, a.rel])), [
            ['https://a.example/x', ...away], [null, ...away], [null, ...away], [null, '', ''], [null, '', ''],
            ['mailto:x@example.org', ...away]]);
    });
});

test('styles of the mail apply, to the mail alone; what was left out is said', async () => {
    await harmless('<html><head><style>p { color: rgb(1, 2, 3) } h1 { color: rgb(4, 5, 6) }</style></head><body bgcolor="#eeeeff">'
        + '<p>x</p><b style="color: rgb(7, 8, 9)">y</b></body>', async (page, frame) => {
        const color = (where, selector) => where.evaluate((s) => getComputedStyle(document.querySelector(s)).color, selector);
        assert.equal(await color(frame, 'p'), 'rgb(1, 2, 3)');
        assert.equal(await color(frame, 'b'), 'rgb(7, 8, 9)');
        assert.notEqual(await color(page, '#subject'), 'rgb(4, 5, 6)');
        assert.equal(await page.isVisible('#remote'), false);
        assert.deepEqual(page.trouble, []);
    });
    await harmless('<img src="OUT" width="9" height="9">', async (page) => {
        assert.equal(await page.textContent('#remote'), strings.en.remote);
        assert.equal(await page.isVisible('#remote'), true);
    });
});

test('text is preferred to formatting; the reader may choose', async () => {
    const { body } = html('');
    const head = body.toString().split('Content-Type')[0];
    const page = await read(deposit({ body: crlf(`${head}Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nthe words\n`
        + '--b\nContent-Type: text/html\n\n<p>the <b>words</b></p>\n--b--\n') }).url);
    assert.equal(await page.isVisible('#plain'), true);
    assert.equal(await page.isVisible('#frame'), false);
    await page.click('#form');
    assert.equal(await page.isVisible('#frame'), true);
    assert.equal(await page.isVisible('#plain'), false);
    assert.equal(await page.frameLocator('#frame').locator('b').textContent(), 'words');
    await page.click('#form');
    assert.equal(await page.isVisible('#plain'), true);
    await done(page);
});

test('pictures that are parts of the mail are shown, others of its parts are not pictures', async () => {
    const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FABJADveWkH6oAAAAAElFTkSuQmCC', 'base64');
    const mail = withFiles([{ name: 'a.png', type: 'image/png', bytes: png, header: 'Content-ID: <one@x>\n' },
        { name: 'b.svg', type: 'image/svg+xml', bytes: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>parent.harm=1</script></svg>'),
            header: 'Content-ID: <two@x>\n' }],
    'Content-Type: text/html\n\n<img id="a" class="a" src="cid:one@x"><img class="b" src="CID:two@x"><img class="c" src="cid:none">\n');
    const page = await read(deposit(mail).url);
    const frame = page.frameLocator('#frame');
    await frame.locator('img.a[src^="blob:"]').waitFor();
    assert.equal(await frame.locator('img.a').evaluate((e) => e.decode().then(() => e.naturalWidth)), 10);
    assert.equal(await frame.locator('img.b').getAttribute('src'), null);
    assert.equal(await page.isVisible('#remote'), false);
    await done(page);
});

test('a mail whose height follows the frame does not grow for ever; a wide one does not widen the page', async () => {
    await harmless('<div style="height:110vh;width:3000px">x</div><style>html,body{height:100%}</style>', async (page) => {
        const height = () => page.evaluate(() => document.getElementById('frame').offsetHeight);
        await page.waitForTimeout(300);
        assert.ok(await height() <= 60100);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    });
});

test('the browser\'s own log of its network: no name of all these mails, no address outside', async () => {
    const page = await world.browser.newPage();
    await page.goto('http://control.leak.test/').catch(() => {}); // what a leak would look like
    await world.browser.close(); // the log is whole then
    const log = readFileSync(netlog, 'utf8');
    assert.ok(names > 80);
    assert.ok(log.includes('control.leak.test') && log.includes(new URL(world.front.url).host));
    assert.deepEqual(new Set(log.match(/[\w-]+\.leak\.test/g)), new Set(['control.leak.test']));
});
