// Makes of page/ what the web role serves: build/page/ (to look at and to compare with a server), and the
// same as C arrays. Every file but vendor.js is served as it stands in the tree. They lie under a name that
// is a hash of all of them, so that they may be cached for ever and refer to each other by plain names.
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
const AS_THEY_ARE = ['view.js', 'sealed.js', 'strings.js', 'server.js', 'mail.js', 'save.js', 'style.css', 'icon.svg', 'frame.html'];
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

const bundled = esbuild.buildSync({
    entryPoints: [join(page, 'vendor.js')], bundle: true, format: 'esm', target: 'es2022', charset: 'utf8', nodePaths: [modules],
    minifyWhitespace: true, minifySyntax: true, legalComments: 'inline', write: false, absWorkingDir: page,
}).outputFiles[0].contents;

const assets = new Map(AS_THEY_ARE.map((name) => [name, readFileSync(join(page, name))]));
assets.set('vendor.js', Buffer.from(bundled));
const name = sha256(Array.from(assets, ([n, bytes]) => `${sha256(bytes)} ${n}\n`).join('')).slice(0, 20);

const gone = Object.entries(strings).map(([language, s], i) =>
    `<section lang="${language}">\n${i ? `<h2>${s.gone}</h2>` : `<h1>${s.gone}</h1>`}\n<p>${s.goneText}</p>\n</section>`);
const document = (file) => Buffer.from(readFileSync(join(page, file), 'utf8')
    .replaceAll('@BASE@', `/page/${name}`).replace('@GONE@', gone.join('\n')));
const documents = new Map([['index.html', document('index.html')], ['gone.html', document('gone.html')]]);

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
    `const struct page_asset page_assets[] = {\n${[...assets].map(([f, b]) => row(f, b)).join(',\n')},\n{0}};`,
    `const struct page_asset page_document = ${row('index.html', documents.get('index.html'))};`,
    `const struct page_asset page_gone = ${row('gone.html', documents.get('gone.html'))};`, '',
].join('\n'));
console.log(`page ${name}: ${all.length} files, ${all.reduce((n, [, b]) => n + b.length, 0)} bytes`);
