// What the tests of the page share: one tree, one front, one Chromium a file; a context a page.
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { launch } from './browser.js';
import { startFront } from './front.js';
import { sealLink } from './seal.js';
import { startTree } from './tree.js';

export const world = { tree: null, front: null, browser: null, flags: [] }; // flags: of the browser, beyond the usual

before(async () => {
    world.tree = await startTree();
    world.front = await startFront(world.tree);
    world.browser = await launch(world.flags);
});

after(async () => {
    await world.browser?.close();
    await world.front?.stop();
    await world.tree?.stop();
});

/** Seals a mail and gives its link. */
export function deposit(mail, options = {}) {
    const sealed = { sender: 'marta@example.org', ...sealLink({ signed: true, ...mail, ...options }), ...options };
    return { ...sealed, url: world.front.add(sealed) };
}

/** A page of which nothing is opened. */
export const anyPage = () => deposit({ body: Buffer.from('\r\n') }).url.split('#')[0];

const contexts = new Map(); // by their options, so that the page's files come out of the cache
const idle = new Map();     // by context: a tab that is free, since a new one costs ten visits

const PICKER = (has) => {
    if (!has) delete window.showSaveFilePicker;
    else window.showSaveFilePicker = async ({ suggestedName }) => {
        window.picked = suggestedName;
        return (await navigator.storage.getDirectory()).getFileHandle('saved', { create: true });
    };
};

async function newTab(context, picker, script) {
    const page = await context.newPage();
    await page.addInitScript(PICKER, picker);
    if (script) await page.addInitScript(script);
    page.on('console', (m) => ['error', 'warning'].includes(m.type()) && page.trouble.push(m.text()));
    page.on('pageerror', (e) => page.trouble.push(String(e)));
    page.on('request', (r) => page.asked.push(r.url()));
    page.isPlain = !picker && !script;
    return page;
}

async function tabFor(options, picker, script) {
    const key = JSON.stringify(options), isPlain = !picker && !script;
    const context = (isPlain && contexts.get(key)) || await world.browser.newContext({
        ignoreHTTPSErrors: true, locale: 'en-GB', viewport: { width: 1000, height: 800 }, ...options,
    });
    if (isPlain) contexts.set(key, context);
    const page = idle.get(context) ?? await newTab(context, picker, script);
    idle.delete(context);
    return page;
}

/**
 * A page, in a context of its own where scripts or a picker make it special. page.trouble: console errors and
 * exceptions; page.asked: every request of the browser, whatever it was for. picker: whether the browser has
 * showSaveFilePicker, which a test cannot operate: it is given files of the origin's private file system then,
 * which have the same streams.
 */
export async function visit(url, { picker = false, script, ...options } = {}) {
    const page = await tabFor(options, picker, script);
    page.trouble = [];
    page.asked = [];
    world.front.log.length = 0;
    await page.goto(url);
    return page;
}

export const shown = (page, id) => page.waitForSelector(`#${id}:not([hidden])`);

/** Visits, presses Open, waits for the mail. */
export async function read(url, options) {
    const page = await visit(url, options);
    await page.click('#open');
    await page.waitForSelector('#mail:not([hidden]), #failed:not([hidden])');
    assert.equal(await page.isVisible('#failed'), false, await page.textContent('#failed'));
    return page;
}

/** Visits, presses Open, and gives the title and the text of the failure. */
export async function failure(url, options) {
    const page = await visit(url, options);
    if (await page.isVisible('#open')) await page.click('#open');
    await shown(page, 'failed');
    assert.equal(await page.isVisible('#mail'), false);
    return [await page.textContent('#failed-title'), await page.textContent('#failed-text'), page];
}

/** Gives the tab back, empty; one that was made special goes, and all that is its own. */
export async function done(page) {
    const context = page.context();
    await context.setOffline(false);
    if (!page.isPlain) return context.close();
    if (idle.has(context)) return page.close();
    page.removeAllListeners('download'); // a test's own
    await page.goto('about:blank'); // a link whose fragment alone is new would not be loaded
    idle.set(context, page);
}
