// Makes of page/ what the web role serves: build/page/ (to look at and to compare with a server), and the
// same as C arrays. Every file but vendor.js is served as it stands in the tree. They lie under a name that
// is a hash of all of them, so that they may be cached for ever and refer to each other by plain names; the
// documents name the SHA-256 of every script and style. Nothing but the tree and what the lock file pins
// goes into it: the same bytes wherever, whenever and by whomever it is built (tests/browser/build.test.js).
//   node page/bundle.mjs BUILD
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

if (Number(process.versions.node.split('.')[0]) < 18) {
    console.error(`page/bundle.mjs needs Node 18 or newer; this is ${process.version}`);
    process.exit(1);
}

const page = dirname(fileURLToPath(import.meta.url)), build = resolve(process.argv[2]);
const modules = join(build, 'npm', 'node_modules');
const esbuild = createRequire(join(modules, 'package.json'))('esbuild');
const { strings } = await import('./strings.js');

const TYPES = { js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', html: 'text/html; charset=utf-8',
    svg: 'image/svg+xml' };
const AS_THEY_ARE = ['frame.html', 'icon.svg', 'mail.js', 'save.js', 'sealed.js', 'server.js', 'sha256.js', 'strings.js', 'style.css', 'view.js'];
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const sri = (bytes) => `sha256-${createHash('sha256').update(bytes).digest('base64')}`; // W3C Subresource Integrity

const bundled = esbuild.buildSync({
    entryPoints: [join(page, 'vendor.js')], bundle: true, format: 'esm', target: 'es2022', charset: 'utf8', nodePaths: [modules],
    minifyWhitespace: true, minifySyntax: true, legalComments: 'inline', write: false, absWorkingDir: page,
}).outputFiles[0].contents;

const assets = new Map([...AS_THEY_ARE, 'vendor.js'].sort()
    .map((file) => [file, file === 'vendor.js' ? Buffer.from(bundled) : readFileSync(join(page, file))]));
const filesSum = sha256(Array.from(assets, ([file, bytes]) => `${sha256(bytes)}  ${file}\n`).join('')); // sha256sum * | sha256sum
const name = filesSum.slice(0, 20), base = `/page/${name}`;

// What a script imports is fetched by its plain name: an import map says which bytes that has to be.
const imports = JSON.stringify({ integrity: Object.fromEntries(Array.from(assets).filter(([file]) => file.endsWith('.js'))
    .map(([file, bytes]) => [`${base}/${file}`, sri(bytes)])) });
const inEveryLanguage = (title, text) => Object.entries(strings).map(([language, s], i) =>
    `<section lang="${language}">\n${i ? `<h2>${s[title]}</h2>` : `<h1>${s[title]}</h1>`}\n<p>${s[text]}</p>\n</section>`).join('\n');
const document = (file) => Buffer.from(readFileSync(join(page, file), 'utf8')
    .replaceAll('@BASE@', base).replace('@IMPORTS@', imports).replace(/@sum:([\w.]+)@/g, (_, asset) => sri(assets.get(asset)))
    .replace('@GONE@', inEveryLanguage('gone', 'goneText')).replace('@BUSY@', inEveryLanguage('busyPage', 'busyPageText')));
const documents = new Map(['index.html', 'gone.html', 'busy.html'].map((file) => [file, document(file)]));

rmSync(join(build, 'page'), { recursive: true, force: true });
mkdirSync(join(build, 'page'), { recursive: true });
mkdirSync(join(build, 'gen'), { recursive: true });
for (const [file, bytes] of [...assets, ...documents]) writeFileSync(join(build, 'page', file), bytes);
writeFileSync(join(build, 'page', 'NAME'), `${name}\n`);

// ---- C ----

const identifier = (file) => file.replace(/\W/g, '_');
const array = (file, bytes) => `static const unsigned char ${identifier(file)}[] = {\n`
    + bytes.toString('hex').replace(/(..)/g, '0x$1,').replace(/(.{100})/g, '$1\n') + '\n};\n';
const row = (file, bytes) => `{"${file}", "${TYPES[file.split('.').pop()]}", "\\"${sha256(bytes).slice(0, 32)}\\"", `
    + `${identifier(file)}, sizeof(${identifier(file)})}`;
const all = [...assets, ...documents];
writeFileSync(join(build, 'gen', 'page_assets.c'), [
    '/* Made by page/bundle.mjs. */', '#include "daemon/web/page.h"', '',
    ...all.map(([file, bytes]) => array(file, bytes)),
    `const char page_build[] = "${name}";`,
    `const char page_sha256[] = "${sha256(documents.get('index.html'))}";`,
    `const char page_files_sha256[] = "${filesSum}";`,
    `const char page_imports[] = "${sri(imports)}";`,
    `const struct page_asset page_assets[] = {\n${[...assets].map(([f, b]) => row(f, b)).join(',\n')},\n{0}};`,
    ...Object.entries({ page_document: 'index.html', page_gone: 'gone.html', page_busy: 'busy.html' })
        .map(([variable, file]) => `const struct page_asset ${variable} = ${row(file, documents.get(file))};`), '',
].join('\n'));
console.log(`page ${sha256(documents.get('index.html'))}, files ${filesSum}: ${all.reduce((n, [, b]) => n + b.length, 0)} bytes`);
