// Nothing made up: a user sends a link with the client, the appliance notifies, the link is opened in Chromium
// from the appliance itself.
import test from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { done, failure, read, shown, visit, world } from './harness.js';
import { withFiles } from './mails.js';
import { strings } from '../../page/strings.js';
import { join } from './seal.js';

const en = strings.en;
const fill = (words) => words.replace('{host}', new URL(world.tree.url).host);
let alice, number = 0;

const FILES = () => [
    { name: 'Contract 2027.pdf', type: 'application/pdf', bytes: randomBytes(184321) },
    { name: 'empty.bin', type: 'application/octet-stream', bytes: Buffer.alloc(0) },
    { name: 'large.bin', type: 'application/octet-stream', bytes: randomBytes(3000000) },
];

/** A mail with attachments, from alice as its From says, and the link that the client prints. */
function send(more = []) {
    alice ??= world.tree.user('alice');
    const files = FILES().map((f) => ({ ...f, header: ` ; filename="${f.name}"\n` })), to = `reader${number++}@elsewhere.example`;
    const { body, parts } = withFiles(files);
    const whole = Buffer.from(join(Buffer.alloc(0), body, parts).toString('latin1')
        .replace(/<marta@example\.org>/, `<${alice.address}>`), 'latin1');
    const { id, links: [url] } = alice.sendLink(whole, [to], more);
    const [, link, password, digest] = /\/m\/([\w-]{22})#([\w-]{43})\.([\w-]{43})$/.exec(url);
    return { files, to, id, url, link, password, digest, bare: url.split('#')[0] };
}

const row = (mail) => alice.status(mail.id).find((r) => r.address === mail.to);
const opened = (mail) => world.tree.events(mail.link).filter((e) => e.event === 'link.opened').map((e) => [e.what, e.got]);

async function save(page, button) {
    const [file] = await Promise.all([page.waitForEvent('download'), button.click()]);
    return readFileSync(await file.path());
}

function get(url, method = 'GET', headers = {}) {
    return new Promise((resolve, reject) => https.request(url, { method, headers, rejectUnauthorized: false }, (answer) => {
        const chunks = [];
        answer.on('data', (c) => chunks.push(c)).on('end', () => resolve([answer.statusCode, Buffer.concat(chunks)]));
    }).on('error', reject).end());
}

test('sent, notified, opened: message and attachments are what was sent, byte for byte', async () => {
    const mail = send(['--subject', 'the contract']);
    const notification = await world.tree.sink.mailTo(mail.to);
    assert.ok(notification.includes(mail.url), 'the link of the notification is the link');
    assert.ok(notification.includes(alice.address));
    const page = await read(/https:\S+\/m\/[\w-]{22}#[\w-]{43}\.[\w-]{43}/.exec(notification)[0]);
    assert.equal(await page.locator('#facts dd').first().textContent(), alice.address);
    assert.equal(await page.isVisible('#differs'), false);
    assert.ok((await page.textContent('#vouched')).includes(fill(en.vouchSender).replace('{sender}', alice.address)));
    assert.ok((await page.textContent('#plain')).includes('notice period'));
    for (const [i, file] of mail.files.entries()) {
        const item = page.locator('#list li').nth(i);
        assert.equal(await item.locator('.name').textContent(), file.name);
        assert.ok((await save(page, item.locator('button'))).equals(file.bytes), file.name);
    }
    assert.ok((await save(page, page.locator('#save'))).equals(alice.run(['read', mail.id])));
    assert.deepEqual(page.trouble, []);
    assert.deepEqual([row(mail).visits, row(mail).opened_ms > 0], [1, true]);
    assert.deepEqual(opened(mail)[0], ['envelope', 'ok']);
    await done(page);
});

test('a mail scanner, even one that runs scripts and clicks, opens nothing', async () => {
    const mail = send();
    for (const method of ['GET', 'HEAD', 'GET']) assert.equal((await get(mail.bare, method))[0], 200);
    for (const part of ['envelope', 'piece/0', 'piece/1']) assert.equal((await get(`${mail.bare}/${part}`))[0], 401);
    const page = await visit(mail.url);
    await shown(page, 'waiting');
    await page.evaluate(() => {
        for (const type of ['click', 'mousedown', 'pointerup']) document.getElementById('open').dispatchEvent(new Event(type));
        for (const button of document.querySelectorAll('button')) button.click();
    });
    await page.waitForLoadState('networkidle');
    assert.deepEqual(page.asked.filter((url) => /envelope|piece/.test(url)), []);
    assert.deepEqual([row(mail).visits, row(mail).opened_ms], [0, 0]);
    assert.ok(opened(mail).every(([, got]) => got === 'wrong gate') && opened(mail).length === 3);
    assert.equal(world.tree.events(mail.link).filter((e) => e.event === 'link.page').length, 4);
    await page.click('#open');
    await shown(page, 'mail');
    assert.equal(row(mail).visits, 1);
    await done(page);
});

test('a rewritten link opens, and the log has it', async () => {
    const mail = send();
    for (const mark of ['%23', '%2523', '?utm_source=x%23']) {
        const page = await visit(mail.url.replace('#', mark));
        assert.equal(page.url(), mail.bare);
        assert.ok(await page.isVisible('#exposed'));
        await page.click('#open');
        await shown(page, 'mail');
        await done(page);
    }
    assert.deepEqual(world.tree.events(mail.link).filter((e) => e.event === 'link.exposed').map((e) => e.got), ['ok', 'ok', 'ok']);
    assert.ok(!JSON.stringify(world.tree.events(mail.link)).includes(mail.password));
    const page = await visit(`${mail.bare}?utm_source=x#${mail.password}.${mail.digest}`);
    assert.equal(await page.isVisible('#exposed'), false);
    await page.click('#open');
    await shown(page, 'mail');
    await done(page);
});

test('the wrong password, the wrong digest, another link', async () => {
    const mail = send(), other = send();
    for (const [url, key] of [[`${mail.bare}#${other.password}.${mail.digest}`, 'refused'], [`${mail.bare}#${mail.password}.${other.digest}`, 'digest'],
        [`${other.bare}#${mail.password}.${mail.digest}`, 'refused']]) {
        const [title, text, page] = await failure(url);
        assert.deepEqual([title, text], [en[key], fill(en[`${key}Text`])]);
        await done(page);
    }
});

for (const [how, more, end] of [['revoked', [], (mail) => alice.run(['revoke', mail.id])], ['expired', ['--expires', '10s'], () => {}]])
    test(`${how}: nothing is there any more, for a page that was open before either`, async () => {
        const mail = send(more);
        const page = await visit(mail.url);
        await shown(page, 'waiting');
        end(mail);
        while ((await get(mail.bare))[0] !== 404) await page.waitForTimeout(200);
        await page.click('#open');
        await shown(page, 'failed');
        assert.equal(await page.textContent('#failed-title'), en.gone);
        const gone = await page.goto(mail.url.replace('#', '?x#'));
        assert.equal(gone.status(), 404);
        assert.equal(await gone.text(), (await get(`${world.tree.url}/m/AAAAAAAAAAAAAAAAAAAAAA`))[1].toString());
        assert.ok((await page.textContent('body')).includes(en.goneText));
        assert.equal(row(mail).state, how);
        await done(page);
    });

test('one bit of the ciphertext, turned on the disk: refused, and nothing of it is shown or saved', async () => {
    const mail = send(), { gateOf, b64u } = await import('../../page/sealed.js');
    const gate = b64u(await gateOf(Buffer.from(mail.password, 'base64url')));
    const piece = async (n) => (await get(`${mail.bare}/piece/${n}`, 'GET', { Authorization: `Sealpost-Gate ${gate}` }))[1];
    assert.equal(await world.tree.flip((await piece(1)).subarray(100, 164)), 1);
    const page = await read(mail.url);
    await page.locator('#list button').first().click();
    await page.locator('#list li').first().getByText(fill(en.pieceDamaged)).waitFor();
    assert.ok((await save(page, page.locator('#list button').nth(2))).equals(mail.files[2].bytes), 'the others are whole');
    await done(page);
    assert.equal(await world.tree.flip((await piece(0)).subarray(100, 164)), 1);
    const [title, text, failed] = await failure(mail.url);
    assert.deepEqual([title, text], [en.damaged, fill(en.damagedText).replace('{name}', 'body')]);
    assert.equal(await failed.textContent('#plain'), '');
    await done(failed);
});
