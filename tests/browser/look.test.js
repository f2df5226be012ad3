// The page for everybody: keyboard alone, screen readers (axe-core: WCAG 2.2 AA), 320 px, light and dark, paper.
import test from 'node:test';
import assert from 'node:assert/strict';
import { axeSource } from './browser.js';
import { deposit, done, read, shown, visit, world } from './harness.js';
import { files, html, plain, withFiles } from './mails.js';
import { strings } from '../../page/strings.js';

/** Every state of the page: [name, how to get there]. */
const STATES = [
    ['waiting', async (o) => visit(deposit(plain()).url, o)],
    ['waiting, exposed', async (o) => visit(deposit(plain()).url.replace('#', '%23'), o)],
    ['mail with attachments', async (o) => read(deposit(withFiles(files()), { serverAccess: true }).url, o)],
    ['formatted mail', async (o) => read(deposit(html('<img src="https://a.example/x" alt="x"><table width="900"><tr><td>wide</table>')).url, o)],
    ['an attachment that failed', async (o) => {
        const mail = deposit(withFiles(files()));
        mail.pieces[1][70] ^= 1;
        const page = await read(mail.url, o);
        await page.locator('#list button').first().click();
        await page.locator('#list .error').first().waitFor();
        return page;
    }],
    ['cut link', async (o) => visit(deposit(plain()).url.slice(0, -3), o)],
    ['no network', async (o) => {
        const page = await visit(deposit(plain()).url, o);
        await page.context().setOffline(true);
        await page.click('#open');
        await shown(page, 'failed');
        return page;
    }],
    ['404', async (o) => visit(`${world.front.url}/m/cut`, o)],
    ['no script', async (o) => visit(deposit(plain()).url, { ...o, javaScriptEnabled: false })],
];

test('axe-core finds nothing, in light and dark', async () => {
    for (const colorScheme of ['light', 'dark'])
        for (const [name, go] of STATES.filter(([n]) => n !== 'no script')) {
            const page = await go({ colorScheme });
            await page.evaluate(axeSource);
            const { violations } = await page.evaluate(() => window.axe.run(document, {
                iframes: false, runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
                rules: { 'target-size': { enabled: true }, 'label-content-name-mismatch': { enabled: true } } }));
            assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 90))}`), [], `${name}, ${colorScheme}`);
            await done(page);
        }
});

test('at 320 px, in every language, nothing is wider than the screen, and buttons can be hit', async () => {
    for (const locale of Object.keys(strings))
        for (const [name, go] of STATES) {
            if (locale !== 'en' && name === '404') continue; // one for all
            const page = await go({ viewport: { width: 320, height: 600 }, locale });
            const sizes = () => [document.documentElement.scrollWidth,
                ...[...document.querySelectorAll('button')].filter((b) => b.offsetParent).map((b) => Math.min(b.offsetHeight, b.offsetWidth))];
            const [width, ...buttons] = await page.evaluate(sizes);
            assert.ok(width <= 320, `${name}, ${locale}: ${width}`);
            assert.ok(buttons.every((size) => size >= 24), `${name}: ${buttons}`); // WCAG 2.5.8
            await done(page);
        }
});

test('text at 200 % and more spacing breaks nothing', async () => {
    const page = await read(deposit(withFiles(files())).url, { viewport: { width: 640, height: 800 } });
    await page.evaluate(() => {
        document.documentElement.style.fontSize = '200%';
        for (const e of document.querySelectorAll('*')) Object.assign(e.style, { letterSpacing: '.12em', wordSpacing: '.16em', lineHeight: '1.5' });
    });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)); // WCAG 1.4.10, 1.4.12
    await done(page);
});

test('dark is dark, and light is light', async () => {
    for (const [colorScheme, dark] of [['light', false], ['dark', true]]) {
        const page = await visit(deposit(plain()).url, { colorScheme });
        const [r] = (await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)).match(/\d+/g).map(Number);
        assert.equal(r < 100, dark);
        await done(page);
    }
});

test('with the keyboard alone: open, read, choose, save', async () => {
    const all = files();
    const page = await visit(deposit(withFiles(all)).url);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'open');
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
    await page.keyboard.press('Enter');
    await shown(page, 'mail');
    assert.equal(await page.textContent('#status'), strings.en.opened);
    const order = [];
    for (let i = 0; i < 6; i++) {
        await page.keyboard.press('Tab');
        order.push(await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id
            ?? document.activeElement.localName));
    }
    assert.deepEqual(order, ['', ...all.map((f) => `Save ${f.name}`), 'print', strings.en.saveMail]); // '': the link in the text
    for (let i = 0; i < 4; i++) await page.keyboard.press('Shift+Tab');
    const [file] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Space')]);
    assert.equal(file.suggestedFilename(), all[0].name);
    await page.waitForFunction((words) => document.getElementById('status').textContent === words, `Saved: ${all[0].name}`);
    await done(page);
});

test('on paper: the mail without buttons, in black on white', async () => {
    const page = await read(deposit(withFiles(files())).url, { colorScheme: 'dark' });
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    assert.equal(await page.isVisible('#print'), false);
    assert.equal(await page.locator('#list button').first().isVisible(), false);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).color), 'rgb(0, 0, 0)');
    assert.ok((await page.pdf()).length > 5000);
    await page.close(); // it stays paper
});
