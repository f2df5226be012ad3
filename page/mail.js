// From the message to what is shown of it. The message is authentic, which does not make it harmless: its
// sender is a stranger. Text becomes text nodes; HTML is cleaned, in a frame that runs no script and whose
// own policy lets nothing out. The page itself never takes markup of a mail into itself.
import { PostalMime, addressParser, DOMPurify } from './vendor.js';

export const MAX_SHOWN = 1 << 20; // characters of one part

/** Headers, text and HTML of what is in the body piece; `files` are parts that stayed in it. */
export async function parseMail(added, body) {
    const mail = await new PostalMime({ attachmentEncoding: 'arraybuffer', maxHeadersSize: 1 << 21 })
        .parse(new Blob([added, body]));
    return {
        subject: mail.subject?.trim() ?? '', date: mail.date && new Date(mail.date),
        from: people(mail.from && [mail.from]), authors: addresses(mail), to: people(mail.to), cc: people(mail.cc),
        text: mail.text ?? '', html: mail.html ?? '',
        // Those that are pieces of their own have left an empty place behind.
        files: mail.attachments.filter((a) => a.content.byteLength > 0).map((a) => ({
            bytes: new Uint8Array(a.content), mediaType: a.mimeType, fileName: a.filename ?? '',
        })),
    };
}

/** A form in which addresses can be compared; a domain's is the browser's own (punycode). */
export function comparable(address) {
    const [, local, domain] = /^(.*)@([^@/?#:]*)$/s.exec(address) ?? [];
    try { return `${local.toLowerCase()}@${new URL(`https://${domain}/`).hostname}`; } catch { return address; }
}

/** Whom all the From fields name, be they one or, against RFC 5322, several: readers show one of them. */
function addresses(mail) {
    return mail.headers.filter((h) => h.key === 'from').flatMap((h) => addressParser(h.value, { flatten: true }))
        .map((p) => p.address || p.name);
}

function people(list = []) {
    return list.flatMap((p) => p.group ?? [p])
        .map((p) => (p.name && p.address ? `${p.name} <${p.address}>` : p.address || p.name)).filter(Boolean);
}

/** What the body says, in front of a piece, of how that piece is encoded, and its Content-ID. */
export function partHeader(body, spliceAt) {
    const before = new TextDecoder('latin1').decode(body.subarray(Math.max(0, spliceAt - 16384), spliceAt));
    const header = before.slice(before.search(/(?:^|\n)--[^\n]*\n(?:(?!--)[^\n]*\n)*$/) + 1).replace(/\r?\n[ \t]+/g, ' ');
    const field = (name) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'im').exec(header)?.[1].trim() ?? '';
    return {
        encoding: field('Content-Transfer-Encoding').toLowerCase(),
        contentId: field('Content-ID').replace(/^<|>$/g, ''),
    };
}

// ---- transfer encodings (RFC 2045 section 6), as streams ----

const DIGITS = new Int32Array(256).fill(-1);
[...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].forEach((c, i) => { DIGITS[c.charCodeAt(0)] = i; });

async function* fromBase64(source) {
    let bits = 0, held = 0;
    for await (const part of source) {
        const out = new Uint8Array(part.length);
        let n = 0;
        for (let i = 0; i < part.length; i++) {
            while (!bits && i + 4 <= part.length) { // whole groups: nearly all of it
                const group = DIGITS[part[i]] << 18 | DIGITS[part[i + 1]] << 12 | DIGITS[part[i + 2]] << 6 | DIGITS[part[i + 3]];
                if (group < 0) break;
                out[n++] = group >> 16;
                out[n++] = group >> 8;
                out[n++] = group;
                i += 4;
            }
            if (i === part.length) break;
            const digit = DIGITS[part[i]];
            if (digit < 0) { // 6.8: padding ends a group, all else is ignored
                if (part[i] === 0x3d) bits = held = 0;
                continue;
            }
            held = (held << 6 | digit) & 0xfff;
            bits += 6;
            if (bits >= 8) out[n++] = held >>> (bits -= 8);
        }
        yield out.subarray(0, n);
    }
}

async function* fromQuotedPrintable(source) {
    let held = []; // "=" and what has come of the two bytes behind it
    const hex = (byte) => parseInt(String.fromCharCode(byte), 16);
    for await (const part of source) {
        const out = [];
        for (const byte of part) {
            if (!held.length && byte !== 0x3d) { out.push(byte); continue; }
            held.push(byte);
            if (held.length === 2 && byte === 0x0a) held = [];
            if (held.length < 3) continue;
            const value = hex(held[1]) * 16 + hex(held[2]);
            if (value >= 0) out.push(value);
            else if (held[1] !== 0x0d || held[2] !== 0x0a) out.push(...held); // 6.7: as it stands
            held = [];
        }
        yield Uint8Array.from(out);
    }
    yield Uint8Array.from(held);
}

export const decodeTransfer = (encoding, source) => (
    { base64: fromBase64, 'quoted-printable': fromQuotedPrintable }[encoding] ?? ((s) => s))(source);

/** How many bytes that will be: exact but for base64, of which only the usual line length is known. */
export const decodedSize = (encoding, length) => (encoding === 'base64' ? Math.floor(length * 57 / 78) : length);

/** A name to show and to save under: nothing that is invisible or turns the order of letters round. */
export function safeName(name, fallback) {
    const clean = name.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, '')
        .replace(/[/\\:*?"<>|]/g, '_').replace(/^\.+/, '').trim();
    return clean.slice(0, 150) || fallback;
}

// ---- showing ----

const URL_IN_TEXT = /https?:\/\/[^\s<>"'\u0000-\u0020]*[^\s<>"'.,;:!?)\]}\u0000-\u0020]/g;

/** Plain text into `element`, addresses of the web as links. */
export function showText(text, element) {
    let at = 0;
    element.replaceChildren();
    for (const match of text.matchAll(URL_IN_TEXT)) {
        const link = Object.assign(document.createElement('a'), {
            href: match[0], textContent: match[0], target: '_blank', rel: 'noopener noreferrer nofollow',
        });
        element.append(text.slice(at, match.index), link);
        at = match.index + match[0].length;
    }
    element.append(text.slice(at));
}

const CLEAN = {
    USE_PROFILES: { html: true }, // no SVG, no MathML
    FORBID_TAGS: ['form', 'input', 'button', 'select', 'textarea', 'option', 'optgroup', 'datalist', 'fieldset',
        'dialog', 'audio', 'video', 'source', 'track', 'picture', 'map', 'area', 'template', 'slot', 'meter'],
    FORBID_ATTR: ['srcset', 'background', 'poster', 'ping', 'action', 'usemap', 'id', 'name', 'tabindex', 'autofocus',
        'accesskey', 'contenteditable', 'popover', 'popovertarget', 'popovertargetaction', 'download'],
    ALLOW_DATA_ATTR: false, WHOLE_DOCUMENT: true, RETURN_DOM: true,
};
const REMOTE = ['src', 'srcset', 'background', 'poster'];

/**
 * HTML into `frame`. Cleaned with the frame's own window, so that not even the parser runs where there are
 * scripts. Gives [element, Content-ID] of pictures that are parts of the mail, and whether something of
 * other servers was left out.
 */
export function showHtml(html, frame) {
    const doc = frame.contentDocument, purify = DOMPurify(frame.contentWindow);
    let blocked = /(?:url\s*\(|@import)[\s"'(url]*(?:https?:)?\/\//i.test(html); // in styles: for the reader's knowledge alone
    purify.addHook('beforeSanitizeAttributes', (node) => {
        for (const name of REMOTE) {
            const value = node.getAttribute?.(name);
            if (!value || (name === 'src' && /^data:image\/(png|jpeg|gif|webp);base64,/i.test(value))) continue;
            node.removeAttribute(name);
            if (name === 'src' && /^cid:/i.test(value)) node.setAttribute('alt', node.getAttribute('alt') ?? '');
            else blocked = true;
            if (/^cid:/i.test(value)) cids.set(node, value.slice(4));
        }
    });
    const cids = new Map();
    purify.addHook('afterSanitizeAttributes', (node) => {
        if (cids.has(node)) node.setAttribute('data-cid', cids.get(node));
        if (node.localName !== 'a' || !node.hasAttribute('href')) return;
        if (!/^(https?|mailto|tel):/i.test(node.getAttribute('href'))) node.removeAttribute('href');
        node.setAttribute('target', '_blank'); // never in the frame itself
        node.setAttribute('rel', 'noopener noreferrer nofollow');
    });
    const clean = purify.sanitize(html, CLEAN), body = clean.querySelector('body'); // none: a frameset
    for (const name of ['style', 'bgcolor', 'dir']) {
        const value = body?.getAttribute(name);
        if (value) doc.body.setAttribute(name, value);
    }
    doc.body.replaceChildren(...clean.querySelectorAll('style'), ...body?.childNodes ?? []);
    const pictures = [...doc.body.querySelectorAll('[data-cid]')].map((e) => {
        const cid = e.getAttribute('data-cid');
        try { return [e, decodeURIComponent(cid)]; } catch { return [e, cid]; }
    });
    return { pictures, blocked };
}
