// What the reader sees and presses. Fetches nothing of the mail before "Open" is pressed, so that a filter
// which follows links opens nothing. Words of a mail reach the page as text nodes alone.
import * as sealed from './sealed.js';
import { strings, chooseLanguage } from './strings.js';
import { ServerError, fetchEnvelope, fetchPiece } from './server.js';
import { MAX_SHOWN, comparable, decodeTransfer, decodedSize, parseMail, partHeader, safeName, showHtml, showText } from './mail.js';
import { WriteError, saveAs } from './save.js';

const $ = (id) => document.getElementById(id);
const language = chooseLanguage(navigator.languages ?? []);
const locale = navigator.languages?.find((l) => l.toLowerCase().startsWith(language)) ?? language; // en-GB, de-AT
const say = (key, values = {}) => strings[language][key]
    .replace(/\{(\w+)\}/g, (_, name) => (name === 'host' ? location.host : values[name]));

// ---- the link ----

/**
 * Reads the link, and takes its secret out of the address bar and the history whether it is whole or not.
 * A word for what is wrong with it, where it is no link: "bare" after a reload, which finds no secret there.
 */
function takeLink() {
    const { pathname, hash, search } = location;
    const [clean] = /^\/m\/[\w-]{22}/.exec(pathname) ?? [pathname];
    history.replaceState(null, '', clean);
    // Filters hang queries of their own on a link; one that rewrites "#" as well leaves the secret in there.
    const [rewritten] = /%(25)?23.*/.exec(search) ?? [''];
    try { return sealed.parseLink(pathname + rewritten, hash); } catch { return /^\/m\/[\w-]{22}$/.test(pathname) && hash.length < 2 ? 'bare' : 'link'; }
}

// ---- what is shown ----

function show(id) {
    for (const section of ['waiting', 'failed', 'mail']) $(section).hidden = section !== id;
    $(id).querySelector('h1').focus({ preventScroll: true });
    window.scrollTo(0, 0);
}

function announce(text) { $('status').textContent = text; }

/** Which words a failure has, and whether trying again makes sense. */
function reasonOf(error) {
    if (error instanceof ServerError) return [error.kind, ['network', 'busy'].includes(error.kind)];
    if (!(error instanceof sealed.SealedError)) return ['broken', false];
    return [['link', 'digest'].includes(error.step) ? error.step : 'damaged', false];
}

function fail(key, retry = false, values = {}) {
    $('failed-title').textContent = say(key, values);
    $('failed-text').textContent = say(`${key}Text`, values);
    $('retry').hidden = !retry;
    document.title = `${say(key)} – ${say('title')}`;
    show('failed');
}

function element(tag, properties = {}, ...children) {
    const e = Object.assign(document.createElement(tag), properties);
    e.append(...children);
    return e;
}

function fact(key, value, isText = true) {
    if (value) $('facts').append(element('dt', { textContent: say(key) }),
        element('dd', { textContent: value, dir: isText ? 'auto' : '' }));
}

function time(date) {
    return Number.isNaN(date?.getTime() ?? NaN) ? ''
        : new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'short' }).format(date);
}

function size(bytes) {
    const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
    const power = Math.min(3, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
    return new Intl.NumberFormat(locale, {
        style: 'unit', unit: units[power], unitDisplay: power ? 'short' : 'long', maximumFractionDigits: power > 1 ? 1 : 0,
    }).format(bytes / 1000 ** power);
}

function showHead(mail, sender, parsed) {
    $('subject').textContent = parsed.subject || say('noSubject');
    document.title = `${parsed.subject || say('noSubject')} – ${say('title')}`;
    fact('sender', sender);
    fact('from', parsed.from.join(', '));
    fact('to', parsed.to.join(', '));
    fact('cc', parsed.cc.join(', '));
    fact('date', time(parsed.date), false);
    fact('expires', time(new Date(mail.expires * 1000)), false);
    if (sender && parsed.authors.some((author) => comparable(author) !== comparable(sender))) {
        $('differs').textContent = say('fromDiffers', { sender });
        $('differs').hidden = false;
    }
    const vouched = mail.signature === 'none' ? ['vouchServer'] : [sender ? 'vouchSender' : 'vouchUser', 'chain'];
    if (mail.signature === 'unchecked') vouched.push('signatureUnchecked');
    if (mail.serverAccess) vouched.push('serverAccess');
    $('vouched').append(...[...vouched, 'intact'].map((key) => element('li', { textContent: say(key, { sender }) })));
}

// ---- text and formatting ----

const MAX_HEIGHT = 60000, MAX_FITS = 200; // a mail whose height follows the frame's would grow for ever

function fitFrame() {
    const frame = $('frame'), { body, documentElement: root } = frame.contentDocument;
    let fits = 0;
    const fit = () => {
        const bar = root.scrollWidth > root.clientWidth ? 20 : 0;
        if (!frame.hidden && fits++ < MAX_FITS)
            frame.style.height = `${Math.min(MAX_HEIGHT, Math.ceil(Math.max(body.scrollHeight, body.offsetHeight)) + bar)}px`;
    };
    new ResizeObserver(fit).observe(body);
    new ResizeObserver(() => { fits = Math.max(0, fits - 1); }).observe(frame.parentElement);
}

const frameReady = new Promise((resolve) => {
    const frame = $('frame'), ready = () => frame.contentDocument?.URL.endsWith('/frame.html')
        && frame.contentDocument.readyState === 'complete';
    if (ready()) resolve();
    else frame.addEventListener('load', resolve, { once: true });
});

const PICTURE = /^image\/(png|jpeg|gif|webp|avif|bmp)$/, MAX_PICTURE = 16 << 20;

/** Pictures that are parts of the mail, once they are fetched and found good. */
async function fillPictures(pictures, parts) {
    for (const [img, contentId] of pictures) {
        const part = parts.find((p) => p.contentId === contentId && PICTURE.test(p.mediaType) && p.size <= MAX_PICTURE);
        if (!part) continue;
        try {
            const chunks = [];
            for await (const chunk of part.open()) chunks.push(chunk);
            img.src = URL.createObjectURL(new Blob(chunks, { type: part.mediaType }));
        } catch { /* its place stays empty; saving it will say why */ }
    }
}

async function showBody(parsed, parts) {
    const hasText = parsed.text.trim() !== '', hasHtml = parsed.html.trim() !== '';
    let filled = false;
    const choose = async (formatted) => {
        if (formatted && !filled) {
            filled = true;
            await frameReady;
            const { pictures, blocked } = showHtml(parsed.html.slice(0, MAX_SHOWN), $('frame'));
            $('remote').hidden = !blocked;
            fillPictures(pictures, parts);
            fitFrame();
        }
        $('plain').hidden = formatted;
        $('frame').hidden = !formatted;
        $('form').textContent = say(formatted ? 'plain' : 'formatted');
        $('long').hidden = (formatted ? parsed.html : parsed.text).length <= MAX_SHOWN;
    };
    if (!hasText && !hasHtml) $('plain').classList.add('quiet');
    showText(hasText || hasHtml ? parsed.text.slice(0, MAX_SHOWN).trimEnd() : say('empty'), $('plain'));
    $('form').hidden = !(hasText && hasHtml);
    $('form').addEventListener('click', () => choose($('frame').hidden));
    await choose(!hasText && hasHtml);
}

// ---- saving ----

function reasonNotSaved(error) {
    if (error instanceof WriteError) return 'pieceWrite';
    if (!(error instanceof ServerError)) return 'pieceDamaged';
    return { gone: 'pieceGone', refused: 'pieceGone' }[error.kind] ?? 'pieceNetwork';
}

/** Makes `button` save what open(signal, onBytes) yields; `message` and a progress bar say how it goes. */
function makeSaver(button, message, name, total, open) {
    const idle = button.textContent;
    let running = null;
    const label = (words, spoken) => { // what is spoken holds what is seen (WCAG 2.5.3)
        button.textContent = words;
        button.setAttribute('aria-label', spoken);
    };
    const rest = () => label(idle, idle === say('save') ? say('saveName', { name }) : idle);
    const progress = element('progress', { max: Math.max(1, total), hidden: true });
    progress.setAttribute('aria-label', say('saving', { name }));
    message.before(progress);
    const state = (words, isError = false) => {
        message.textContent = words;
        message.classList.toggle('error', isError);
    };
    button.addEventListener('click', async () => {
        if (running) return running.abort();
        const abort = running = new AbortController();
        state('');
        try {
            const done = await saveAs(name, () => {
                label(say('cancel'), say('cancelName', { name }));
                progress.value = 0;
                progress.hidden = false;
                return open(abort.signal, (bytes) => { progress.value += bytes; });
            });
            if (done) announce(say('savedName', { name }));
            state(done ? say('saved') : '');
        } catch (error) {
            if (error.name === 'AbortError') state('');
            else {
                const words = say(reasonNotSaved(error));
                state(words, true);
                announce(words);
            }
        }
        running = null;
        progress.hidden = true;
        rest();
    });
    rest();
}

async function* counted(source, onBytes) {
    for await (const chunk of source) {
        onBytes?.(chunk.length);
        yield chunk;
    }
}

function listFiles(parts) {
    for (const part of parts) {
        const button = element('button', { type: 'button', textContent: say('save') });
        const message = element('span', { className: 'message' });
        const kind = part.mediaType.length <= 32 ? `${part.mediaType}, ` : '';
        const about = part.encoding === 'base64' ? say('about', { n: size(part.size) }) : size(part.size);
        $('list').append(element('li', {},
            element('span', { className: 'name', textContent: part.name, dir: 'auto' }),
            element('span', { className: 'quiet', textContent: kind + about }), button, message));
        makeSaver(button, message, part.name, part.length, part.open);
    }
    $('files').hidden = parts.length === 0;
}

// ---- opening ----

const ENDINGS = { 'application/pdf': '.pdf', 'image/png': '.png', 'image/jpeg': '.jpg', 'image/gif': '.gif', 'text/plain': '.txt',
    'application/zip': '.zip', 'message/rfc822': '.eml' };
const unnamed = (n, mediaType) => say('unnamed', { n }) + (ENDINGS[mediaType] ?? '');

/** Everything that can be saved by itself: pieces, and the odd part that stayed in the body. */
function partsOf(mail, parsed, body, openPiece) {
    const parts = mail.pieces.slice(1).map((piece) => {
        const { encoding, contentId } = partHeader(body, piece.spliceAt);
        return {
            name: safeName(piece.fileName, unnamed(piece.number, piece.mediaType)), mediaType: piece.mediaType,
            encoding, contentId, size: decodedSize(encoding, piece.length), length: piece.length,
            open: (signal, onBytes) => decodeTransfer(encoding, counted(openPiece(piece, signal), onBytes)),
        };
    });
    return parts.concat(parsed.files.map((file, i) => ({
        ...file, name: safeName(file.fileName, unnamed(parts.length + i + 1, file.mediaType)),
        size: file.bytes.length, length: file.bytes.length, open: async function* () { yield file.bytes; },
    })));
}

async function openLink(link) {
    const gate = sealed.b64u(await sealed.gateOf(link.password));
    const [reply, sender] = await fetchEnvelope(link.id, gate);
    const mail = await sealed.openMail(link, reply);
    link.password.fill(0); // from here on the pieces' keys do
    const openPiece = (piece, signal) => sealed.openPiece(piece, fetchPiece(link.id, gate, piece, signal));
    const chunks = [];
    for await (const chunk of openPiece(mail.pieces[0])) chunks.push(chunk);
    const body = sealed.concat(...chunks);
    const parsed = await parseMail(mail.added, body);
    const parts = partsOf(mail, parsed, body, openPiece);
    showHead(mail, sender, parsed);
    listFiles(parts);
    await showBody(parsed, parts);
    const total = mail.added.length + mail.pieces.reduce((sum, piece) => sum + piece.length, 0);
    makeSaver($('save'), $('save-message'), `${safeName(parsed.subject, 'mail').slice(0, 80)}.eml`, total,
        async function* (signal, onBytes) {
            for (const part of sealed.rejoin(mail, body)) {
                if (part instanceof Uint8Array) yield* counted([part], onBytes);
                else yield* counted(openPiece(part, signal), onBytes);
            }
        });
    show('mail');
    announce(say('opened'));
}

function start() {
    document.documentElement.lang = language;
    document.title = say('title');
    $('host').textContent = location.host;
    $('fallback').remove();
    for (const e of document.querySelectorAll('[data-text]')) e.textContent = say(e.dataset.text);
    $('vouched').setAttribute('aria-label', say('checked'));
    $('frame').title = say('frame');
    const link = takeLink();
    // A whole link pasted over a cut one changes nothing but the fragment: begin anew.
    window.addEventListener('hashchange', () => location.reload());
    if (!globalThis.isSecureContext || !globalThis.crypto?.subtle) return fail('browser');
    if (typeof link === 'string') return fail(link);
    $('exposed').hidden = !link.exposed;
    const open = async (event) => {
        if (!event.isTrusted || $('open').disabled) return; // a script's click is not a reader's
        for (const button of [$('open'), $('retry')]) button.disabled = true;
        $('open').textContent = say('opening');
        announce(say('opening'));
        try { await openLink(link); }
        catch (error) {
            const [key, retry] = reasonOf(error);
            fail(key, retry, { name: error.step });
        }
        for (const button of [$('open'), $('retry')]) button.disabled = false;
        $('open').textContent = say('open');
    };
    $('open').addEventListener('click', open);
    $('retry').addEventListener('click', open);
    $('print').addEventListener('click', () => window.print());
    show('waiting');
}

start();
