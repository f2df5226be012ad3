// Mails for the page to show.
import { randomBytes } from 'node:crypto';

export const crlf = (text) => Buffer.from(text.replace(/\r?\n/g, '\r\n'));

const base64Lines = (bytes) => bytes.toString('base64').replace(/(.{76})/g, '$1\r\n');

const HEAD = `From: "Dr. Marta Lindqvist" <marta@example.org>
To: Jonas Weber <jonas@elsewhere.example>
Date: Mon, 23 Nov 2026 09:14:00 +0100
Subject: =?utf-8?Q?The_contract=2C_as_discussed?=
Message-ID: <1@example.org>
MIME-Version: 1.0
`;

export const TEXT = `Dear Jonas,

here is the contract as we discussed it on Thursday. The figures of the second
year are in the table; the annex is unchanged.

Please look at section 4 in particular, where the notice period is now three
months. The draft is at https://example.org/drafts/contract?rev=7#four (you have
the password).

> Could you send me the final version before Wednesday?

Gladly. Call me if anything is unclear.

Kind regards
Marta
`;

export const plain = () => ({ body: crlf(`${HEAD}Content-Type: text/plain; charset=utf-8\n\n${TEXT}`) });

export const html = (markup, extra = '') => ({
    body: crlf(`${HEAD}${extra}Content-Type: text/html; charset=utf-8\n\n${markup}`),
});

/** A multipart whose attachments are pieces, as the cutter makes it. files: [{name, type, bytes, header, encoding}]. */
export function withFiles(files, first = `Content-Type: text/plain; charset=utf-8\n\n${TEXT}`) {
    let body = crlf(`${HEAD}Content-Type: multipart/mixed; boundary="b0"\n\n--b0\n${first}`);
    const parts = [];
    for (const f of files) {
        const encoding = f.encoding ?? 'base64';
        body = Buffer.concat([body, crlf(`\n--b0\nContent-Type: ${f.type}\nContent-Transfer-Encoding: ${encoding}\n`
            + `Content-Disposition: attachment\n${f.header ?? ''}\n`)]);
        parts.push({ bytes: encoding === 'base64' ? Buffer.from(base64Lines(f.bytes)) : f.encoded ?? f.bytes,
            mediaType: f.type, fileName: f.name, spliceAt: body.length });
    }
    return { body: Buffer.concat([body, crlf('\n--b0--\n')]), parts };
}

export const files = () => [
    { name: 'Contract 2027.pdf', type: 'application/pdf', bytes: randomBytes(184321) },
    { name: 'figures.xlsx', type: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', bytes: randomBytes(40000) },
    { name: 'site plan with a rather long name, as people like to give them (second revision).png', type: 'image/png',
        bytes: randomBytes(1234567) },
];
