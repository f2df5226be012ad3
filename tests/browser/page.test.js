// The page in Chromium, as the real web role serves it: opening, and every way of not opening.
import test from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { anyPage, deposit, done, failure, read, shown, visit, world } from './harness.js';
import { loadVectors } from './data.js';
import { crlf, plain, withFiles, files, html } from './mails.js';
import { BUILD } from './tree.js';
import { strings } from '../../page/strings.js';

const en = strings.en;
const PAGE = new URL('../../page/', import.meta.url).pathname;
const ofMail = () => world.front.log.filter((line) => /\/(envelope|piece)/.test(line));

test('sealed.js, as served, in Chromium: every vector', async () => {
    const page = await visit(anyPage());
    const name = readFileSync(join(BUILD, 'page', 'NAME'), 'utf8').trim();
    const source = readFileSync(new URL('vectors.js', import.meta.url), 'utf8').replace(/^export /gm, '');
    // As text: the page's policy lets no script of a test in, so that it comes by way of the debugger.
    const outcomes = await page.evaluate(`(async (vectors) => {
        ${source}
        const outcomes = [];
        for (const [name, run] of cases(await import('/page/${name}/sealed.js'), vectors))
            outcomes.push([name, await run().then(() => '', (error) => String(error))]);
        return outcomes;
    })(${JSON.stringify(loadVectors())})`);
    assert.ok(outcomes.length > 50);
    assert.deepEqual(outcomes.filter(([, error]) => error), []);
    await done(page);
});

test('what is served is what is in the tree', async () => {
    const page = await visit(anyPage());
    const name = readFileSync(join(BUILD, 'page', 'NAME'), 'utf8').trim();
    const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');
    for (const file of readdirSync(join(BUILD, 'page')).filter((f) => !['NAME', 'index.html', 'gone.html', 'busy.html'].includes(f))) {
        const response = await page.request.get(`${world.front.url}/page/${name}/${file}`);
        assert.equal(response.status(), 200, file);
        const tree = file === 'vendor.js' ? join(BUILD, 'page', file) : join(PAGE, file);
        assert.equal(sum(await response.body()), sum(readFileSync(tree)), file);
    }
    await done(page);
});

test('compare.sh says so, and says when it is not', async () => {
    const compare = () => new Promise((resolve) => execFile('sh', [join(PAGE, 'compare.sh'), deposit(plain()).url, BUILD],
        { env: { ...process.env, CURL: 'curl -k' } }, (error, out) => resolve([error?.code ?? 0, out.match(/^DIFFERS.*/gm)?.length ?? 0])));
    assert.deepEqual(await compare(), [0, 0]);
    world.front.answer = (path, _, response) => path.endsWith('/sealed.js') && response.writeHead(200).end('another');
    assert.deepEqual(await compare(), [1, 1]);
    world.front.answer = null;
});

test('a script or style that is not the one the page names does not run', async () => {
    const mail = deposit(plain());
    for (const file of ['view.js', 'sealed.js', 'server.js', 'vendor.js', 'style.css']) {
        world.front.answer = (path, _, response) => path.startsWith('/page/') && path.endsWith(`/${file}`)
            && response.writeHead(200, { 'Content-Type': file.endsWith('.css') ? 'text/css' : 'text/javascript' })
                .end(`${readFileSync(join(BUILD, 'page', file), 'utf8')}\n`); // one byte more
        const page = await visit(mail.url, { script: () => {} }); // a context of its own: an empty cache
        await page.waitForLoadState('networkidle');
        world.front.answer = null;
        assert.ok(page.trouble.some((words) => words.includes('integrity')), file);
        assert.equal(await page.isVisible('#open'), file === 'style.css');
        if (file !== 'style.css') assert.ok(await page.locator('#fallback').count());
        await done(page);
    }
});

test('nothing of the mail is fetched before Open is pressed, and not by a script', async () => {
    const mail = deposit(plain());
    const page = await visit(mail.url);
    await shown(page, 'waiting');
    await page.waitForLoadState('networkidle');
    await page.evaluate(() => { // what a filter that runs scripts may try
        for (const type of ['click', 'mousedown', 'submit']) document.getElementById('open').dispatchEvent(new Event(type));
        document.getElementById('open').click();
        window.scrollTo(0, 9999);
    });
    await page.waitForTimeout(100);
    assert.deepEqual(ofMail(), []);
    await page.click('#open');
    await shown(page, 'mail');
    assert.deepEqual(ofMail(), [`GET /m/${mail.id}/envelope`, `GET /m/${mail.id}/piece/0`]);
    await done(page);
});

test('the mail, who vouches for what, and until when', async () => {
    const mail = deposit(plain(), { serverAccess: true, expires: 1800000000 });
    const page = await read(mail.url);
    const text = (await page.innerText('#mail')).replace(/\s+/g, ' ');
    const host = new URL(mail.url).host;
    for (const words of ['The contract, as discussed', 'Dr. Marta Lindqvist <marta@example.org>', 'Jonas Weber', 'notice period',
        en.chain, en.vouchSender.replace('{host}', host).replace('{sender}', 'marta@example.org'), en.serverAccess.replace('{host}', host), en.intact, '15 January 2027'])
        assert.ok(text.includes(words), words);
    assert.equal(await page.getAttribute('#plain a', 'href'), 'https://example.org/drafts/contract?rev=7#four');
    assert.equal(await page.getAttribute('#plain a', 'rel'), 'noopener noreferrer nofollow');
    assert.match(await page.title(), /^The contract, as discussed/);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'subject');
    assert.deepEqual(page.trouble, []);
    await done(page);
    const own = await read(deposit(plain(), { signed: false }).url);
    assert.ok((await own.textContent('#vouched')).includes(en.vouchServer.replace('{host}', host)));
    assert.ok(!(await own.textContent('#vouched')).includes(en.serverAccess.replace('{host}', host)));
    await done(own);
});

test('the sender for whom the server vouches comes first; a mail that names another is said to', async () => {
    const host = new URL(world.front.url).host;
    const look = async (mail, options) => {
        const page = await read(deposit(mail, options).url);
        const facts = await page.locator('#facts').innerText(), differs = await page.locator('#differs:not([hidden])').allTextContents();
        const vouched = await page.textContent('#vouched');
        assert.deepEqual(page.trouble, []);
        await done(page);
        return [facts.replace(/\s+/g, ' '), differs, vouched];
    };
    const warning = (sender) => [en.fromDiffers.replace('{sender}', sender)];
    const vouches = (sender) => en.vouchSender.replace('{host}', host).replace('{sender}', sender);
    const from = (value) => ({ body: crlf(`From: ${value}\nSubject: s\n\nx\n`) });
    for (const [mail, sender, differs] of [
        [plain(), 'marta@example.org', []], [plain(), 'Marta@EXAMPLE.ORG', []],
        [plain(), 'mallory@example.org', warning('mallory@example.org')],
        [from('marta@example.org, boss@example.org'), 'marta@example.org', warning('marta@example.org')],
        [from('marta@example.org\nFrom: boss@example.org'), 'marta@example.org', warning('marta@example.org')],
        [from('"marta@example.org" <boss@example.org>'), 'marta@example.org', warning('marta@example.org')],
        [from('staff: boss@example.org;'), 'marta@example.org', warning('marta@example.org')],
        [from('jörg@bücher.example'), encodeURIComponent('jörg@xn--bcher-kva.example'), []],
        [{ body: crlf('Subject: s\n\nx\n') }, 'marta@example.org', []],
    ]) {
        const [facts, note, vouched] = await look(mail, { sender });
        const name = decodeURIComponent(sender);
        assert.ok(facts.startsWith(`${en.sender} ${name}`), facts);
        assert.deepEqual(note, differs);
        assert.ok(vouched.includes(vouches(name)));
    }
    for (const sender of ['', 'nobody', 'a@b%E2%80%AE', 'a%20b@c', 'a@b%0d%0a', '%ff@b', 'a@b@c', '%', `${'x'.repeat(300)}@b`]) { // none that could be shown
        const [facts, note, vouched] = await look(plain(), { sender });
        assert.ok(facts.startsWith(`${en.from} `), facts);
        assert.deepEqual(note, []);
        assert.ok(vouched.includes(en.vouchUser.replace('{host}', host)));
    }
});

test('the secret leaves address bar and history at once; a rewritten link is mended', async () => {
    const mail = deposit(plain());
    const [secret] = mail.fragment.split('.');
    for (const [url, exposed] of [[mail.url, false], [mail.url.replace('#', '?utm_source=x#'), false], [mail.url.replace('#', '%23'), true],
        [mail.url.replace('#', '%2523'), true], [mail.url.replace('#', '?utm_source=x%23'), true], [mail.url.replace('#', '?u=x%2523'), true],
        [`${mail.url.replace('#', '%23')}?utm_source=x`, true]]) {
        const page = await visit(url);
        assert.equal(page.url(), `${world.front.url}/m/${mail.id}`);
        assert.equal(await page.isVisible('#exposed'), exposed);
        const session = await page.context().newCDPSession(page);
        const { entries } = await session.send('Page.getNavigationHistory');
        assert.deepEqual(entries.map((e) => e.url).filter((u) => u.includes(secret)), []); // what was typed, Chromium keeps for itself
        assert.ok(!(await page.content()).includes(secret));
        await page.click('#open');
        await shown(page, 'mail');
        assert.equal(await page.evaluate(() => document.referrer + location.href + history.state), `${world.front.url}/m/${mail.id}null`);
        assert.deepEqual(page.trouble, []);
        await done(page);
    }
    // What the server heard of a link that was whole: never the secret.
    const page = await read(mail.url);
    assert.ok(!JSON.stringify([world.front.log, world.front.headers.slice(-6)]).includes(secret));
    await done(page);
});

test('neither cookie nor storage, and nobody else is asked', async () => {
    const page = await read(deposit(withFiles(files())).url);
    assert.deepEqual(await page.context().cookies(), []);
    assert.deepEqual(await page.evaluate(async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length,
        (await caches.keys()).length, (await navigator.serviceWorker.getRegistrations()).length]), [0, 0, 0, 0, 0]);
    assert.deepEqual(page.asked.filter((url) => !url.startsWith(world.front.url)), []);
    await done(page);
});

test('headers of page, frame and 404', async () => {
    const page = await visit(anyPage());
    const ask = (path) => page.request.get(`${world.front.url}${path}`);
    const [found, other] = await Promise.all([anyPage(), anyPage()].map((url) => page.request.get(url)));
    const gone = await ask('/m/cut'), unknown = await ask('/m/AAAAAAAAAAAAAAAAAAAAAA');
    assert.deepEqual([found.status(), gone.status(), unknown.status()], [200, 404, 404]);
    assert.equal(await other.text(), await found.text()); // the same for every link
    assert.equal(await unknown.text(), await gone.text()); // and for every one that is not there
    for (const response of [found, gone]) {
        const headers = response.headers();
        assert.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self' 'sha256-[\w+/]{43}='; .*trusted-types 'none'$/);
        assert.ok(!/unsafe|data:|https?:|\*/.test(headers['content-security-policy']));
        assert.equal(headers['cache-control'], 'no-store');
        assert.equal(headers['referrer-policy'], 'no-referrer');
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['cross-origin-opener-policy'], 'same-origin');
        assert.match(headers['strict-transport-security'], /^max-age=\d{8}/);
    }
    const name = readFileSync(join(BUILD, 'page', 'NAME'), 'utf8').trim();
    const frame = (await ask(`/page/${name}/frame.html`)).headers();
    assert.match(frame['content-security-policy'], /default-src 'none'.*sandbox(?!.*allow-scripts)/);
    assert.match(frame['cache-control'], /immutable/);
    for (const language of Object.values(strings)) assert.ok((await gone.text()).includes(language.goneText));
    await done(page);
});

// ---- every failure has its own words ----

const fill = (words) => words.replace('{host}', new URL(world.front.url).host);

test('cut and wrong links', async () => {
    const mail = deposit(plain()), other = deposit(plain());
    const [password, digest] = mail.fragment.split('.');
    const at = `${world.front.url}/m/${mail.id}`;
    for (const [url, key] of [
        [mail.url.slice(0, -1), 'link'], [`${at}#${password}`, 'link'], [`${at}#`, 'bare'], [at, 'bare'], [`${at}%23${password}`, 'link'],
        [`${at}#${other.fragment.split('.')[0]}.${digest}`, 'refused'], // the server shows nothing to a wrong gate
        [`${at}#${password}.${other.fragment.split('.')[1]}`, 'digest'],
    ]) {
        const [title, text, page] = await failure(url);
        assert.deepEqual([title, text], [en[key], en[`${key}Text`].replace('{host}', new URL(world.front.url).host)], url);
        assert.equal(await page.isVisible('#retry'), false);
        assert.equal(await page.evaluate(() => document.activeElement.id), 'failed-title');
        assert.ok(!page.url().includes('#') && !page.url().includes('%'));
        await done(page);
    }
});

test('a reload finds no secret and says what to do; a whole link pasted over it works', async () => {
    const mail = deposit(plain());
    const page = await read(mail.url);
    await page.reload();
    await shown(page, 'failed');
    assert.equal(await page.textContent('#failed-title'), en.bare);
    await page.evaluate((url) => { location.href = url; }, mail.url); // nothing but the fragment changes
    await shown(page, 'waiting');
    assert.equal(page.url(), `${world.front.url}/m/${mail.id}`);
    await page.click('#open');
    await shown(page, 'mail');
    await done(page);
});

test('one flipped byte anywhere: refused, in the right words, and nothing shown', async () => {
    const clean = deposit(plain());
    const envelopeLength = clean.reply.readUInt32BE(0);
    const manifestAt = 4 + envelopeLength - 40, boxAt = 4 + envelopeLength + 4;
    const flips = [
        ['magic of the envelope', 4, 'damaged', 'envelope'], ['ephemeral key', 4 + 30, 'digest'],
        ['manifest', manifestAt, 'digest'], ['kind of the box', boxAt, 'damaged', 'box'], ['expiry', boxAt + 30, 'digest'],
        ['sealed', clean.reply.length - 5, 'damaged', 'box'], ['length', 3, 'damaged', 'envelope'],
    ];
    for (const [what, at, key, step] of flips) {
        const mail = deposit(plain());
        mail.reply[at] ^= 1;
        const [title, text, page] = await failure(mail.url);
        assert.deepEqual([title, text], [en[key], fill(en[`${key}Text`]).replace('{name}', step)], what);
        await done(page);
    }
    for (const at of [0, 40, 60, -1]) {
        const mail = deposit(plain());
        mail.pieces[0][at < 0 ? mail.pieces[0].length + at : at] ^= 0x80;
        const [title, text, page] = await failure(mail.url);
        assert.deepEqual([title, text], [en.damaged, fill(en.damagedText).replace('{name}', 'body')]);
        assert.equal(await page.textContent('#plain'), '');
        await done(page);
    }
});

test('a manifest that lies about a hash, a signature that is none', async () => {
    for (const [tamper, step] of [[{ hash: 0 }, 'body'], [{ length: 0 }, 'manifest'], [{ signature: true }, 'box']]) {
        const [title, text, page] = await failure(deposit(plain(), { tamper }).url);
        assert.deepEqual([title, text], [en.damaged, fill(en.damagedText).replace('{name}', step)]);
        await done(page);
    }
});

test('answers of the server: gone, refused, busy, too much', async () => {
    const mail = deposit(plain());
    for (const [status, key, retry] of [[404, 'gone', false], [410, 'gone', false], [401, 'refused', false], [403, 'refused', false],
        [429, 'busy', true], [500, 'busy', true], [503, 'busy', true]]) {
        world.front.answer = (path, _, response) => path.endsWith('/envelope') && response.writeHead(status).end();
        const [title, text, page] = await failure(mail.url);
        world.front.answer = null;
        assert.deepEqual([title, text], [fill(en[key]), fill(en[`${key}Text`])]);
        assert.equal(await page.isVisible('#retry'), retry);
        if (retry) {
            await page.click('#retry');
            await shown(page, 'mail');
        }
        await done(page);
    }
    world.front.answer = (path, _, response) => { // without end
        if (!path.endsWith('/envelope')) return false;
        const pump = () => { while (!response.destroyed && response.write(Buffer.alloc(65536))); };
        response.on('drain', pump).writeHead(200);
        pump();
        return true;
    };
    const [title, , page] = await failure(mail.url);
    world.front.answer = null;
    assert.equal(title, en.damaged);
    await done(page);
    world.front.answer = (path, _, response) => path.endsWith('/envelope') && response.writeHead(302, { Location: 'https://other.example/' }).end();
    const [redirected, , elsewhere] = await failure(mail.url);
    world.front.answer = null;
    assert.equal(redirected, en.network);
    assert.deepEqual(elsewhere.asked.filter((url) => !url.startsWith(world.front.url)), []);
    await done(elsewhere);
});

test('without a network: said so, and tried again without the link', async () => {
    const mail = deposit(plain());
    const page = await visit(mail.url);
    await page.context().setOffline(true);
    await page.click('#open');
    await shown(page, 'failed');
    assert.equal(await page.textContent('#failed-title'), en.network);
    await page.context().setOffline(false);
    await page.click('#retry');
    await shown(page, 'mail');
    await done(page);
});

test('a body whose connection breaks is continued where it broke', async () => {
    const mail = deposit(html(`<p>${'long '.repeat(60000)}</p>`));
    let breaks = 2;
    world.front.answer = (path, request, response) => {
        if (!path.endsWith('/piece/0') || breaks === 0) return false;
        breaks--;
        const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? 'bytes=0-')[1]), body = mail.pieces[0];
        response.writeHead(from ? 206 : 200, { 'Content-Length': body.length - from });
        response.write(body.subarray(from, from + 70000), () => setTimeout(() => response.destroy(), 50));
        return true;
    };
    const page = await read(mail.url);
    world.front.answer = null;
    assert.equal(ofMail().filter((line) => line.endsWith('/piece/0')).length, 3);
    await done(page);
});

test('a browser without the cryptography, and one without scripts', async () => {
    const mail = deposit(plain());
    const [title, text, page] = await failure(mail.url, {
        script: () => Object.defineProperty(globalThis, 'crypto', { value: {} }) });
    assert.deepEqual([title, text], [en.browser, en.browserText]);
    await done(page);
    const still = await visit(mail.url, { javaScriptEnabled: false });
    assert.ok((await still.locator('#fallback').innerText()).includes('JavaScript'));
    assert.ok(await still.isVisible('#fallback'));
    await done(still);
});

test('a browser without Ed25519 opens it and says that it could not check the signature', async () => {
    const page = await read(deposit(plain()).url, { script: () => {
        const real = crypto.subtle.importKey.bind(crypto.subtle);
        crypto.subtle.importKey = (format, data, algorithm, ...rest) => (algorithm === 'Ed25519'
            ? Promise.reject(new DOMException('', 'NotSupportedError')) : real(format, data, algorithm, ...rest));
    } });
    assert.ok((await page.textContent('#vouched')).includes(en.signatureUnchecked));
    await done(page);
});

test('every language has every line, with the same places to fill', () => {
    const places = (line) => line.match(/\{\w+\}/g)?.sort() ?? [];
    for (const [language, table] of Object.entries(strings)) {
        assert.deepEqual(Object.keys(table), Object.keys(en), language);
        for (const key of Object.keys(en)) assert.deepEqual(places(table[key]), places(en[key]), `${language} ${key}`);
    }
});

test('the browser chooses the language', async () => {
    const mail = deposit(plain());
    for (const [locale, language] of [['de-AT', 'de'], ['fr-CA', 'fr'], ['es-MX', 'es'], ['ja-JP', 'ja'], ['en-US', 'en'], ['nl-NL', 'en']]) {
        const page = await visit(mail.url, { locale });
        assert.equal(await page.textContent('#waiting h1'), strings[language].waiting);
        assert.equal(await page.getAttribute('html', 'lang'), language);
        await page.click('#open');
        await shown(page, 'mail');
        assert.ok((await page.textContent('#vouched')).includes(strings[language].chain));
        await done(page);
    }
});
