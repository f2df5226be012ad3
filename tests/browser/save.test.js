// Attachments and whole mails on the reader's disk: byte for byte, or not at all.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deposit, done, read, world } from './harness.js';
import { crlf, files, html, plain, withFiles } from './mails.js';
import { strings } from '../../page/strings.js';
import { BUILD } from './tree.js';

const en = strings.en;
const row = (page, i) => page.locator('#list li').nth(i);
const fill = (words) => words.replace('{host}', new URL(world.front.url).host);

/** Presses a button that downloads, and gives the file. */
async function download(page, button) {
    const [file] = await Promise.all([page.waitForEvent('download', { timeout: 120000 }), button.click()]);
    return { name: file.suggestedFilename(), bytes: readFileSync(await file.path()) };
}

/** What stands in the picked file: null before anything was closed into it. */
const picked = (page) => page.evaluate(async () => {
    const handle = await (await navigator.storage.getDirectory()).getFileHandle('saved').catch(() => null);
    if (!handle) return null;
    const bytes = await (await handle.getFile()).arrayBuffer(), hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return { length: bytes.byteLength, sha256: Array.from(hash, (b) => b.toString(16).padStart(2, '0')).join('') };
});

test('attachments are what was attached, decoded; the mail is what was sent', async () => {
    const all = files();
    const mail = deposit(withFiles(all), { added: 'Authentication-Results: mail.example.test; none\r\n' });
    const page = await read(mail.url);
    for (const [i, file] of all.entries()) {
        assert.equal(await row(page, i).locator('.name').textContent(), file.name);
        const got = await download(page, row(page, i).locator('button'));
        assert.ok(got.bytes.equals(file.bytes), file.name);
        await row(page, i).getByText(en.saved, { exact: true }).waitFor();
    }
    const whole = await download(page, page.locator('#save'));
    assert.ok(whole.bytes.equals(mail.message));
    assert.equal(whole.name, 'The contract, as discussed.eml');
    assert.deepEqual(page.trouble, []);
    await done(page);
});

test('to a picked file, as it comes', async () => {
    const all = [{ name: 'large.bin', type: 'application/octet-stream', bytes: randomBytes(5000000) }];
    const page = await read(deposit(withFiles(all)).url, { picker: true });
    await row(page, 0).locator('button').click();
    await row(page, 0).getByText(en.saved, { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => window.picked), 'large.bin');
    assert.deepEqual(await picked(page), { length: all[0].bytes.length,
        sha256: createHash('sha256').update(all[0].bytes).digest('hex') });
    await done(page);
});

/** The most memory, in MB, that each process which runs pages has held since the last call (Linux counts it). */
async function renderers() {
    const session = await world.browser.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    await session.detach();
    return new Map(processInfo.filter((p) => p.type === 'renderer').map(({ id }) => {
        const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, 'utf8'));
        writeFileSync(`/proc/${id}/clear_refs`, '5');
        return [id, Number(peak) / 1024];
    }));
}

const large = (n) => {
    const bytes = randomBytes(n);
    return { mail: deposit(withFiles([{ name: 'large.bin', type: 'application/octet-stream', bytes, encoding: 'binary' }])),
        sha256: createHash('sha256').update(bytes).digest('hex') };
};

test('100 MB are downloaded, byte for byte', async () => {
    const { mail, sha256 } = large(100e6);
    const page = await read(mail.url);
    assert.ok((await row(page, 0).textContent()).includes('100 MB'));
    const got = await download(page, row(page, 0).locator('button'));
    assert.equal(createHash('sha256').update(got.bytes).digest('hex'), sha256);
    assert.deepEqual(page.trouble, []);
    await done(page);
});

test('250 MB to a picked file: byte for byte, and never half of it in memory', async () => {
    const { mail, sha256 } = large(250e6);
    const page = await read(mail.url, { picker: true });
    await renderers();
    const before = await renderers();
    await row(page, 0).locator('button').click();
    await row(page, 0).getByText(en.saved, { exact: true }).waitFor({ timeout: 120000 });
    const grown = Math.max(...Array.from(await renderers(), ([id, peak]) => peak - (before.get(id) ?? 0)));
    assert.ok(grown < 125, `${grown} MB more`); // most of it garbage that was not collected yet
    assert.deepEqual(await picked(page), { length: 250e6, sha256 });
    await done(page);
});

test('nothing is fetched for an attachment before it is asked for, nor after the dialogue was closed', async () => {
    const mail = deposit(withFiles(files()));
    const page = await read(mail.url);
    const asked = () => world.front.log.filter((line) => /piece\/[1-9]/.test(line));
    await page.waitForLoadState('networkidle');
    assert.deepEqual(asked(), []);
    await page.evaluate(() => {
        window.showSaveFilePicker = async () => { throw new DOMException('', 'AbortError'); };
    });
    await row(page, 0).locator('button').click();
    await page.waitForTimeout(100);
    assert.deepEqual(asked(), []);
    assert.equal(await row(page, 0).locator('.message').textContent(), '');
    await done(page);
});

test('one flipped byte of an attachment: said, and no file; the rest of the mail stays', async () => {
    for (const at of [3, 30, 2000000, -1]) {
        const mail = deposit(withFiles([{ name: 'a.bin', type: 'application/octet-stream', bytes: randomBytes(3000000) }]));
        mail.pieces[1][at < 0 ? mail.pieces[1].length + at : at] ^= 1;
        const page = await read(mail.url, { picker: true });
        await row(page, 0).locator('button').click();
        await row(page, 0).locator('.message.error').waitFor();
        assert.equal(await row(page, 0).locator('.message').textContent(), fill(en.pieceDamaged));
        assert.equal(await page.textContent('#status'), fill(en.pieceDamaged));
        assert.ok([null, 0].includes((await picked(page))?.length ?? null)); // made by the dialogue, never written
        await page.locator('#save').click();
        await page.locator('#save-message.error').waitFor();
        assert.ok(await page.isVisible('#plain'));
        await done(page);
    }
});

test('a piece that is whole, but not the one that was named', async () => {
    const mail = deposit(withFiles([{ name: 'a.bin', type: 'application/octet-stream', bytes: randomBytes(50000) }]), { tamper: { hash: 1 } });
    const page = await read(mail.url);
    page.on('download', () => assert.fail('a file'));
    await row(page, 0).locator('button').click();
    await row(page, 0).locator('.message.error').waitFor();
    await page.waitForTimeout(100);
    await done(page);
});

test('withdrawn while it is read; no network; a connection that breaks', async () => {
    const mail = deposit(withFiles(files()));
    const page = await read(mail.url);
    world.front.mails.delete(mail.id);
    await row(page, 0).locator('button').click();
    await row(page, 0).getByText(en.pieceGone).waitFor();
    world.front.mails.set(mail.id, mail);
    await page.context().setOffline(true);
    await row(page, 0).locator('button').click();
    await row(page, 0).getByText(en.pieceNetwork).waitFor();
    await page.context().setOffline(false);
    let breaks = 2;
    world.front.answer = (path, request, response) => {
        if (!path.endsWith('/piece/3') || breaks-- <= 0) return false;
        const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? 'bytes=0-')[1]), body = mail.pieces[3];
        response.writeHead(from ? 206 : 200, { 'Content-Length': body.length - from });
        response.write(body.subarray(from, from + 500000), () => setTimeout(() => response.destroy(), 50));
        return true;
    };
    const got = await download(page, row(page, 2).locator('button'));
    world.front.answer = null;
    assert.ok(got.bytes.equals(Buffer.from(mail.message.toString('latin1').split('\r\n\r\n').at(-1).split('\r\n--b0--')[0], 'base64')));
    await done(page);
});

test('a save can be cancelled, and begun again', async () => {
    const all = [{ name: 'a.bin', type: 'application/octet-stream', bytes: randomBytes(400000) }];
    const mail = deposit(withFiles(all));
    const page = await read(mail.url);
    let hung = null;
    world.front.answer = (path, _, response) => {
        if (!path.endsWith('/piece/1') || hung) return false;
        hung = response;
        response.writeHead(200, { 'Content-Length': mail.pieces[1].length });
        response.write(mail.pieces[1].subarray(0, 100000));
        return true;
    };
    const button = row(page, 0).locator('button');
    await button.click();
    await row(page, 0).getByText(en.cancel).waitFor();
    await page.waitForFunction(() => document.querySelector('progress').value > 0);
    assert.equal(await button.getAttribute('aria-label'), 'Cancel saving a.bin');
    await button.click();
    await row(page, 0).getByText(en.save, { exact: true }).waitFor();
    assert.equal(await row(page, 0).locator('progress').isVisible(), false);
    const got = await download(page, button);
    world.front.answer = null;
    assert.ok(got.bytes.equals(all[0].bytes));
    await done(page);
});

test('parts that stayed in the body are listed too', async () => {
    const { body } = html('');
    const head = body.toString().split('Content-Type')[0], bytes = randomBytes(1000);
    const page = await read(deposit({ body: crlf(`${head}Content-Type: application/pdf; name=whole.pdf\nContent-Transfer-Encoding: base64\n\n`
        + `${bytes.toString('base64')}\n`) }).url);
    assert.equal(await page.textContent('#plain'), en.empty);
    const got = await download(page, row(page, 0).locator('button'));
    assert.equal(got.name, 'whole.pdf');
    assert.ok(got.bytes.equals(bytes));
    await done(page);
});

test('transfer encodings and part headers', async () => {
    const page = await read(deposit(plain()).url);
    const name = readFileSync(join(BUILD, 'page', 'NAME'), 'utf8').trim();
    const decode = (encoding, parts) => page.evaluate(async ([at, encoding, parts]) => {
        const { decodeTransfer } = await import(at);
        const out = [];
        async function* source() { for (const p of parts) yield new TextEncoder().encode(p); }
        for await (const chunk of decodeTransfer(encoding, source())) out.push(...chunk);
        return String.fromCharCode(...out);
    }, [`/page/${name}/mail.js`, encoding, parts]);
    for (const [encoding, parts, want] of [
        ['base64', ['SGVs', 'bG8g\r\nd29', 'ybGQ=\r\n'], 'Hello world'], ['base64', ['SGk=SGk='], 'HiHi'], ['base64', ['S G\0k'], 'Hi'], ['base64', ['SGVsbG8g', 'd2', '9ybG', 'Qh\r\nSGVsbG8h'], 'Hello world!Hello!'],
        ['base64', ['SGk=\r\nSGVs\r\nbG8h', 'SGk='], 'HiHello!Hi'], ['base64', ['SGVsS', 'GVs', 'S=GVs'], 'HelHel\x19['], ['base64', ['SGVsb'], 'Hel'],
        ['quoted-printable', ['a=3Db=\r\nc =C3', '=A4', '=', 'zz=\n!='], 'a=bc \xc3\xa4=zz!='], ['7bit', ['as ', 'is='], 'as is='],
        ['', ['x'], 'x'], ['binary', ['\0'], '\0'], ['unknown', ['='], '='],
    ]) assert.equal(await decode(encoding, parts), want, `${encoding} ${parts}`);
    const header = (body, at) => page.evaluate(async ([url, b, n]) => (await import(url)).partHeader(new TextEncoder().encode(b), n ?? b.length),
        [`/page/${name}/mail.js`, body, at]);
    const mime = '--b\r\nContent-Transfer-Encoding: 7bit\r\n\r\ntext\r\n--b\r\ncontent-transfer-ENCODING:\r\n BASE64\r\nContent-Id: <x@y>\r\n\r\n';
    assert.deepEqual(await header(mime), { encoding: 'base64', contentId: 'x@y' });
    assert.deepEqual(await header('--b\nA: b\n\n'), { encoding: '', contentId: '' });
    assert.deepEqual(await header(`${'-'.repeat(40000)}\r\n\r\n`), { encoding: '', contentId: '' });
    await done(page);
});

test('names are safe to show and to save under', async () => {
    const page = await read(deposit(plain()).url);
    const name = readFileSync(join(BUILD, 'page', 'NAME'), 'utf8').trim();
    const safe = (names) => page.evaluate(async ([at, list]) => {
        const { safeName } = await import(at);
        return list.map((n) => safeName(n, 'fallback'));
    }, [`/page/${name}/mail.js`, names]);
    assert.deepEqual(await safe(['a.pdf', '', '...', '.bashrc', 'a\u202Efdp.exe', 'a:b|c?.txt', ' x ', '\u200b', 'x'.repeat(400), '報告.pdf']),
        ['a.pdf', 'fallback', 'fallback', 'bashrc', 'afdp.exe', 'a_b_c_.txt', 'x', 'fallback', 'x'.repeat(150), '報告.pdf']);
    await done(page);
});
